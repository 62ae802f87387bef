<?php
// Echoes the body of a POST and counts it, in a file that the workers share.
$file = getenv("COUNT_FILE");
if ($_SERVER["REQUEST_METHOD"] === "POST") {
    file_put_contents($file, "x", FILE_APPEND | LOCK_EX);
    echo file_get_contents("php://input");
} else {
    echo is_file($file) ? filesize($file) : 0;
}
