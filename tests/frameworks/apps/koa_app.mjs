// koa, koa-bodyparser
import Koa from "koa";
import bodyParser from "koa-bodyparser";

const app = new Koa();
app.silent = true;
app.use(bodyParser());
app.use((context) => {
  if (context.path === "/crash") throw new Error("db-7.internal is down");
  if (context.path === "/private") context.throw(401, "Please log in.");
  if (context.path === "/items") context.body = context.request.body;
});
app.listen(Number(process.argv[2]), "127.0.0.1");
