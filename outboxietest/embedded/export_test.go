package embedded

// Wipe removes the data of both servers. A test passes the function that removes one path, and so can interrupt the removal.
var Wipe = wipe
