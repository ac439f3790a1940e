package postgres

// LostStatement must not read a large hole again for each part of it.
const LostStatement = lostStatement
