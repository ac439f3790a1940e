package embedded

// Wipe is the removal of a data folder, with the step that a test interrupts.
var Wipe = wipe
