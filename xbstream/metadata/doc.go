// Package metadata holds the files of a backup that tell about the backup.
//
// # hb's own
//
// The first file of an archive that hb writes is hb-archive.json ([Archive]):
// one JSON object that says what this is. The last is hb-manifest.json
// ([Manifest]), which makes the archive provably complete:
//
//	{"hb_manifest":1,"files":3,"bytes":73400412,"from_lsn":...}
//	{"path":"hb-archive.json","size":412,"crc32":"0c5d1d3b"}
//	{"path":"ibdata1","size":12582912,"crc32":"9a3e11f0"}
//	{"path":"ib_logfile0","size":60817088,"crc32":"77b0e2c4"}
//	{"hb_manifest_end":1,"files":3,"crc32":"5f3c8f10"}
//
// It is a row of JSON objects, one on each line, so that a million files are
// written and checked one at a time. The first line holds the facts and
// totals, the last the number of files again and the CRC-32 (IEEE) of all
// bytes before that line. In between is every file of the archive but the
// manifest itself, in the order in which the files were completed, with its
// size in bytes and the CRC-32 (IEEE) of its content. A path that is not
// valid UTF-8 stands in "path_base64" instead of "path".
//
// # Compatibility
//
// Both carry a version. Fields may be added without a new version, so unknown
// fields are ignored; a change that an older hb could misread gets a new
// version, and a version that hb does not know is refused (*VersionError).
//
// # The peers'
//
// [Checkpoints], [Info], [BinlogPos] and [MyCnf] are the text files that
// mariadb-backup and XtraBackup write and read. Their names are in [Names].
package metadata
