// Sends one request to each endpoint with an SDK from npm and prints what the SDK's user gets, one JSON value per line.
// node sdk_requests.mjs PACKAGE ENDPOINT...
import { createRequire } from "node:module";

const [name, ...endpoints] = process.argv.slice(2);
// The directory of .ci/packages: `import` does not read NODE_PATH.
const { AppwriteException, Client, Locale } = createRequire(import.meta.url)(name);

for (const endpoint of endpoints) {
  const client = new Client().setEndpoint(endpoint).setProject("shop");
  let outcome;
  try {
    outcome = { country: (await new Locale(client).get()).country };
  } catch (error) {
    outcome = error instanceof AppwriteException
      ? { raised: error.name, code: error.code, type: error.type, message: error.message, response: error.response }
      : { foreign: String(error) };
  }
  console.log(JSON.stringify(outcome));
}
