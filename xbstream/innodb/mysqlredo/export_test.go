package mysqlredo

// RebuildInFiles is Rebuild with files of at most limit bytes, in RedoDir.
var RebuildInFiles = rebuild
