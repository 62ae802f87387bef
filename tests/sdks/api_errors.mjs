// Calls an API through published SDKs from npm and prints what their user gets, one JSON value per line.
// node api_errors.mjs SDK CALL...
//
// CALL is `URL` or `URL#N`: with N the SDK may repeat the request up to N times by itself, otherwise never.
import { pathToFileURL } from "node:url";

const [name, ...calls] = process.argv.slice(2);
// The directory of .ci/packages: `import` does not read NODE_PATH.
const packages = process.env.NODE_PATH;

async function octokit() {
  const { Octokit, RequestError } = await import(pathToFileURL(`${packages}/octokit/dist-bundle/index.js`));
  return async (url, retries) => {
    const octokit = new Octokit({
      baseUrl: url,
      log: { debug() {}, info() {}, warn() {}, error() {} },
      retry: { enabled: false },
      throttle: retries === 0 ? { enabled: false } : {
        // The plug-in waits as long as the response says, then asks here.
        onRateLimit: (_wait, _options, _octokit, count) => count < retries,
        onSecondaryRateLimit: (_wait, _options, _octokit, count) => count < retries,
      },
    });
    try {
      const issue = await octokit.rest.issues.create({ owner: "o", repo: "r", title: "t" });
      // A body that ends early is an empty text, not an error.
      return issue.data === "" ? { empty: issue.status } : { value: issue.data.title };
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      if (error.response === undefined) return { connection: error.name };
      const { message, documentation_url: page, errors } = error.response.data;
      const outcome = { raised: error.name, status: error.status, message, type: page, code: null };
      return errors === undefined ? outcome : { ...outcome, errors };
    }
  };
}

const call = await { octokit }[name]();
for (const argument of calls) {
  const [url, retries] = argument.split("#");
  let outcome;
  try {
    outcome = await call(url, Number(retries ?? 0));
  } catch (error) {
    outcome = { foreign: String(error) };
  }
  console.log(JSON.stringify(outcome));
}
process.exit();
