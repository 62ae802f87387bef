<?php
// Echoes the body of a request.
echo file_get_contents("php://input");
