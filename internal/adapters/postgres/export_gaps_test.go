package postgres

// LostStatement is exported so that a test can check its plan: it must not read a large hole again for each part of the hole.
const LostStatement = lostStatement
