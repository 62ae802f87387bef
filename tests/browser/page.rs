//! A page on an origin of its own, whose script asks for addresses and writes down what it could read.

use serde_json::{Value, json};
use statusquo::conformance::{ScriptedUpstream, UpstreamStep, http_response};

use crate::chromium;

/// One call of the page's `fetch`.
pub struct PageFetch {
    /// What it is called in the findings.
    pub name: String,
    pub url: String,
    /// `fetch`'s second argument.
    pub options: Value,
}

/// A server for one page. Its origin is known before the page is: a gateway can be told of it.
pub struct TestPage {
    server: ScriptedUpstream,
}

impl TestPage {
    /// Serves it on a port of its own.
    pub fn serve() -> TestPage {
        let server = ScriptedUpstream::by_request(|request| {
            let response = match request.path() {
                "/page" => http_response("200 OK\ncontent-type: text/html; charset=utf-8", SCRIPT),
                _ => http_response("404 Not Found", ""),
            };
            vec![UpstreamStep::ReadRequestHead, UpstreamStep::Write(response)]
        });
        TestPage { server: server.unwrap() }
    }

    /// As the browser sends it.
    pub fn origin(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Opens it and returns its findings, by name: `{"status", "body", "fields"}`, or `{"failed"}` with the error's name
    /// where `fetch` gave nothing.
    pub fn open(&self, fetches: &[PageFetch]) -> Value {
        let fetches: Vec<_> = fetches
            .iter()
            .map(|ask| json!({ "name": ask.name, "url": ask.url, "options": ask.options }))
            .collect();
        // The part after # stays in the browser.
        let document =
            chromium::document(&format!("{}/page#{}", self.origin(), hex(&Value::from(fetches).to_string())));
        let found = document.split_once("<pre>").and_then(|(_, rest)| rest.split_once("</pre>"));
        let Some((found, _)) = found else { panic!("no findings in the document:\n{document}") };
        let found = found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        serde_json::from_str(&found).unwrap_or_else(|error| panic!("{error}: the page found:\n{found}"))
    }
}

/// Two digits a byte: nothing that an address or a shell would read otherwise.
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
