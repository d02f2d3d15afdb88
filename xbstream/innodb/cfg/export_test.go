package cfg

// CharWidth is charWidth, for tests.
var CharWidth = charWidth
