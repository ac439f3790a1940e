package jetstream

// Decode reads a message as a subscriber does.
var Decode = decode

// Encode makes a message as the publisher does, and says how large its headers are.
var Encode = encode

// Covers reports whether a pattern matches all that a subject matches.
var Covers = covers
