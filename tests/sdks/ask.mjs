// Asks one endpoint after the other through an SDK of npm and prints what its user gets, one JSON value a line.
// node ask.mjs PACKAGE ENDPOINT...
import { createRequire } from "node:module";

const [name, ...endpoints] = process.argv.slice(2);
// From where .ci/packages installed it: NODE_PATH is read by `require` only.
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
