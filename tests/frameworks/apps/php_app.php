<?php
// php -S, the built-in server
$path = parse_url($_SERVER["REQUEST_URI"], PHP_URL_PATH);
if ($path === "/crash") {
    throw new RuntimeException("db-7.internal is down");
}
if ($path === "/items") {
    header("Content-Type: application/json");
    echo json_encode(json_decode(file_get_contents("php://input"), flags: JSON_THROW_ON_ERROR));
    return true;
}
return false;
