//! A web page on its own origin whose script calls `fetch` and records what it could read.

use serde_json::{Value, json};
use statusquo::conformance::{ScriptedUpstream, Step, http_response};

use crate::chromium;

/// One `fetch` call of the page.
pub struct PageFetch {
    /// Name in the results.
    pub name: String,
    pub url: String,
    /// Second argument of `fetch`.
    pub options: Value,
}

/// A server for one page. Its origin is known before the page exists, so that the gateway can allow it.
pub struct TestPage {
    server: ScriptedUpstream,
}

impl TestPage {
    /// Binds the server to a free port.
    pub fn serve() -> TestPage {
        let server = ScriptedUpstream::by_request(|request| {
            let response = match request.path() {
                "/page" => http_response("200 OK\ncontent-type: text/html; charset=utf-8", SCRIPT),
                _ => http_response("404 Not Found", ""),
            };
            vec![Step::ReadRequestHead, Step::Write(response)]
        });
        TestPage { server: server.unwrap() }
    }

    /// The origin as the browser sends it.
    pub fn origin(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Opens the page and returns the results by name: `{"status", "body", "fields"}`, or `{"failed"}` with the name of
    /// the error.
    pub fn open(&self, fetches: &[PageFetch]) -> Value {
        let fetches: Vec<_> = fetches
            .iter()
            .map(|fetch| json!({ "name": fetch.name, "url": fetch.url, "options": fetch.options }))
            .collect();
        // The browser does not send the fragment.
        let document =
            chromium::document(&format!("{}/page#{}", self.origin(), hex(&Value::from(fetches).to_string())));
        let found = document.split_once("<pre>").and_then(|(_, rest)| rest.split_once("</pre>"));
        let Some((found, _)) = found else { panic!("no results in the document:\n{document}") };
        let found = found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        serde_json::from_str(&found).unwrap_or_else(|error| panic!("{error}: results:\n{found}"))
    }
}

/// Hex encoding, safe in URLs and shells.
fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

const SCRIPT: &str = "<!doctype html><title>asking</title><pre>asking</pre><script>
const bytes = location.hash.slice(1).match(/../g).map(pair => parseInt(pair, 16));
const asks = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes)));
(async () => {
  const found = {};
  for (const { name, url, options } of asks) {
    try {
      const response = await fetch(url, options);
      found[name] = { status: response.status, body: await response.text(), fields: Object.fromEntries(response.headers) };
    } catch (error) {
      found[name] = { failed: error.name };
    }
  }
  document.querySelector('pre').textContent = JSON.stringify(found);
})();
</script>
";
