// @nestjs/core, @nestjs/common, @nestjs/platform-express, class-validator, class-transformer, reflect-metadata, rxjs
import "reflect-metadata";
import { Body, Controller, ForbiddenException, Get, Module, Post, ValidationPipe } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import { IsNumber, IsString } from "class-validator";

class Item {}
IsString()(Item.prototype, "name");
IsNumber()(Item.prototype, "price");

class Items {
  create(item) {
    return item;
  }
  crash() {
    throw new Error("db-7.internal is down");
  }
  private() {
    throw new ForbiddenException();
  }
}

// What TypeScript writes for decorators.
const method = (name) => Object.getOwnPropertyDescriptor(Items.prototype, name);
Reflect.defineMetadata("design:paramtypes", [Item], Items.prototype, "create");
Body()(Items.prototype, "create", 0);
Post("items")(Items.prototype, "create", method("create"));
Get("crash")(Items.prototype, "crash", method("crash"));
Get("private")(Items.prototype, "private", method("private"));
Controller()(Items);
class App {}
Module({ controllers: [Items] })(App);

const app = await NestFactory.create(App, { logger: false });
app.useGlobalPipes(new ValidationPipe());
await app.listen(Number(process.argv[2]), "127.0.0.1");
