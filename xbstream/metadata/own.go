package metadata

import (
	"path"

	"hb/xbstream/keyring"
)

// ownNames are the files of the backup itself, which are no files of the server.
var ownNames = func() map[string]bool {
	own := map[string]bool{
		ArchiveName: true, IndexName: true, ManifestName: true, MyCnfName: true, ExternalName: true, DonorGaleraInfoName: true,
		keyring.SealedName: true, DefinitionsName: true,
		"ib_logfile0": true, "xtrabackup_logfile": true, // the redo log of either family
	}
	for _, n := range []Names{XtraBackupNames, MariaDBNames} {
		for _, name := range []string{n.Checkpoints, n.Info, n.BinlogInfo, n.SlaveInfo, n.GaleraInfo} {
			own[name] = true
		}
	}
	return own
}()

// FixupDelete and FixupRename end the names of files that say what DDL did while a
// full backup copied.
const (
	FixupDelete = ".del"
	FixupRename = ".ren"
)

// IsOwn reports whether a file of an archive is the backup's own and not one of the
// server's: an incremental backup does not say what became of it.
func IsOwn(name string) bool {
	ext := path.Ext(name)
	return ownNames[name] || ext == FixupDelete || ext == FixupRename
}
