package sdi

// MaxTotal is maxTotal, for tests.
var MaxTotal = &maxTotal
