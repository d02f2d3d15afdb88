package usage

import "slices"

// A Peer is an option of XtraBackup or mariadb-backup that hb does not have, and
// what hb's way is.
type Peer struct{ Option, Instead string }

// Peers are those options that users of these tools type by habit. Options that
// hb has too are not among them.
var Peers = []Peer{
	{"apply-log", "hb apply DIR prepares a backup"},
	{"apply-log-only", "hb apply DIR prepares a backup; there are no incremental backups that could follow"},
	{"backup", "it is a command: hb backup > FILE"},
	{"backup-lock-timeout", "it is --lock-wait-timeout"},
	{"backup-locks", "hb takes the locks that the server has; see hb help locks"},
	{"binlog-info", "the binary log's position is always recorded"},
	{"check-privileges", "hb backup always checks the privileges, before it locks or writes anything"},
	{"check-tables", "hb verify checks a backup, and hb verify --replay rehearses its recovery"},
	{"close-files", "the limit of open files is that of the process: ulimit -n"},
	{"compress-chunk-size", "hb compresses the archive as a whole; see hb help stages"},
	{"compress-threads", "hb compresses with all processors: --compress"},
	{"compress-zstd-level", "it is --compress-level"},
	{"copy-back", "extract to where the server's data directory shall be: hb extract --apply -C DIR"},
	{"databases", "hb backs up the whole server"},
	{"databases-exclude", "hb backs up the whole server"},
	{"databases-file", "hb backs up the whole server"},
	{"decompress", "hb extract undoes compression by itself"},
	{"decrypt", "hb extract -i KEYFILE opens age's encryption; see hb help stages"},
	{"defaults-group", "hb reads the groups [client] and [hb]; --defaults-group-suffix names more; see hb help options"},
	{"encrypt", "it is --encrypt-to RECIPIENT, --encrypt-to-file or --encrypt-passphrase-file; see hb help stages"},
	{"encrypt-key", "it is --encrypt-to RECIPIENT to encrypt, and --identity FILE to decrypt; see hb help stages"},
	{"encrypt-key-file", "it is --encrypt-to-file FILE to encrypt, and --identity FILE to decrypt; see hb help stages"},
	{"encrypt-threads", "age has one thread"},
	{"export", "start a server on the restored directory, and use FLUSH TABLES ... FOR EXPORT there"},
	{"extra-lsndir", "--info-file FILE keeps what became of the backup, with its LSNs"},
	{"fifo-streams", "hb backup writes one stream to standard output; --parallel N is how many readers there are"},
	{"force-non-empty-directories", "hb extract takes an empty directory alone"},
	{"history", "--info-file FILE keeps what became of the backup; hb writes nothing to the server"},
	{"incremental", "there are no incremental backups"},
	{"incremental-basedir", "there are no incremental backups"},
	{"incremental-dir", "there are no incremental backups"},
	{"incremental-force-scan", "there are no incremental backups"},
	{"incremental-history-name", "there are no incremental backups"},
	{"incremental-history-uuid", "there are no incremental backups"},
	{"incremental-lsn", "there are no incremental backups"},
	{"innodb-log-group-home-dir", "hb asks the server where its files are"},
	{"keyring-file-data", "servers with encryption at rest are not supported"},
	{"lock-ddl", "hb takes the locks that the server has; see hb help locks"},
	{"lock-ddl-timeout", "it is --lock-wait-timeout"},
	{"log-copy-interval", "hb chooses it"},
	{"login-path", "hb reads option files, and passwords from --password-file; see hb help options"},
	{"move-back", "extract to where the server's data directory shall be: hb extract --apply -C DIR"},
	{"no-backup-locks", "hb takes the locks that the server has; see hb help locks"},
	{"no-lock", "a backup that may be inconsistent is not offered; see hb help locks"},
	{"no-server-version-check", "hb refuses servers whose formats it does not know; hb version lists them"},
	{"no-version-check", "hb asks nobody for versions"},
	{"open-files-limit", "the limit is that of the process: ulimit -n"},
	{"page-tracking", "there are no incremental backups"},
	{"prepare", "it is a command: hb apply DIR"},
	{"print-param", "the archive's backup-my.cnf has these settings"},
	{"read-buffer-size", "hb chooses it"},
	{"remove-original", "hb extract undoes compression and encryption by itself, and leaves the archive as it is"},
	{"rollback-prepared-trx", "external XA transactions stay prepared, and the server can roll them back"},
	{"rollback-xa", "external XA transactions stay prepared, and the server can roll them back"},
	{"rsync", "send the archive through a pipe: hb backup | ssh HOST \"hb extract -C DIR\""},
	{"ssl", "it is --ssl-mode REQUIRED"},
	{"stream", "hb backup always streams to standard output: hb backup > FILE"},
	{"tables", "hb backs up the whole server"},
	{"tables-compatibility-check", "hb backup always checks the engines, before it locks or writes anything"},
	{"tables-exclude", "hb backs up the whole server"},
	{"tables-file", "hb backs up the whole server"},
	{"target-dir", "hb backup writes to standard output: hb backup | hb extract -C DIR; and a directory to prepare is an argument: hb apply DIR"},
	{"to-archived-lsn", "hb applies the whole redo log of a backup"},
	{"use-free-memory-pct", "it is --memory SIZE"},
	{"use-memory", "it is --memory SIZE"},
}

// peer returns what stands in Peers of an option, without dashes.
func peer(option string) (Peer, bool) {
	i := slices.IndexFunc(Peers, func(p Peer) bool { return p.Option == option })
	if i < 0 {
		return Peer{}, false
	}
	return Peers[i], true
}
