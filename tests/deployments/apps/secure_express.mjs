// Redirects to https, as Express applications behind a proxy are set up by the documentation of Express.
import { createRequire } from "node:module";

// NODE_PATH applies to require only.
const express = createRequire(import.meta.url)("express");
const app = express();
app.set("trust proxy", "loopback");
app.use((request, response, next) => {
  if (request.secure) return next();
  response.redirect(301, `https://${request.hostname}${request.originalUrl}`);
});
app.get("/", (request, response) => response.send(`secure ${request.hostname} ${request.ip}`));
app.listen(Number(process.argv[2]), "127.0.0.1");
