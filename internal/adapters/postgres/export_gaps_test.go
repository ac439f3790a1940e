package postgres

// HolePageStatement is exported so that a test can check its plan: it must not read a large hole again for each part of the hole.
const HolePageStatement = holePageStatement
