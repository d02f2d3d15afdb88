package restore

// MakeObjects is makeObjects, for tests.
var MakeObjects = makeObjects
