// Package metadata holds the files of a backup that describe it.
//
// # hb's own
//
// The first file of an archive that hb writes is hb-archive.json ([Archive]):
// one JSON object that describes the archive. The last is hb-manifest.json
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
// The manifest of an incremental backup ([Since]) has version 2. After the files of
// the archive it lists each file of the server that the backup restores ([Live]), with
// its length and where its content is, and each file that the base has and that is
// gone: nothing follows from a file's absence.
//
//	{"live":"db/t.ibd","size":114688,"kind":"changed","space":5,"pages_sum":"0123456789abcdef"}
//	{"live":"db/m.MYD","size":1024,"kind":"kept"}
//	{"dropped":"db/gone.ibd"}
//
// # What restoring an archive of hb's takes
//
// Files lie in the archive where a server started on the directory finds them,
// wherever they were: tablespaces of DATA DIRECTORY, of general
// tablespaces elsewhere, of innodb_undo_directory and innodb_data_home_dir are in
// the data directory itself, and there are no .isl files. A tablespace is known
// by the id in its page 0. MySQL's lie beside the databases too: mysql.ibd,
// general ones (NAME.ibd), undo tablespaces (undo001, undo_001, NAME.ibu).
//
// On servers that cannot block DDL while pages are copied, tablespaces may be
// dropped, renamed, or changed without redo after their copy. Fix-up files record,
// to be obeyed before the redo is replayed, all .del files before all .ren files:
//
//	db/t.del   remove db/t.ibd
//	db/t.ren   rename db/t.ibd to the name in the file: db/u, without .ibd
//
// On MySQL they may lie beside the databases (archive.del for archive.ibd). What
// is there after them is what the server had at the end: a tablespace that the
// redo log deletes and that is there all the same was brought back by IMPORT
// TABLESPACE, under its old id, and stays. (Its pages are newer than all redo
// from before.) So it is with a tablespace whose redo ends with TRUNCATE (5.7).
//
// The redo log (xtrabackup_logfile on MySQL) ends exactly at the manifest's last_lsn.
// On MySQL the manifest names the undo tablespaces that must be there, and temporary
// ones that are not, by id: undo_spaces, temporary_spaces; and for tablespaces to
// which older redo must not be applied, each with the LSN from which it must:
// replay_from. A server that is left to recover the directory by itself would apply
// it, so that this must be refused then.
//
// From MySQL 8.0 on, the binary log file of the position, up to the position, and
// an index that names it as ./FILE, lie beside the databases under the names that
// they had on the server. 5.6 and 5.7, whose position was taken when nothing was
// prepared, have none.
//
// # Compatibility
//
// Both carry a version. Fields may be added without a new version, so unknown
// fields are ignored; a change that an older hb could misread gets a new
// version, and a version that hb does not know is refused (*VersionError).
//
// # The peers'
//
// [Checkpoints], [Info], [BinlogPos], [MyCnf] and [ExternalSpace] are the files that
// mariadb-backup and XtraBackup write and read. Their names are in [Names].
package metadata
