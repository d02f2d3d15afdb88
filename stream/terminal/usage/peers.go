package usage

import (
	"slices"
	"strings"
)

// A Tool is one that users of hb come from, or several.
type Tool int

// The tools.
const (
	XtraBackup Tool = 1 << iota
	MariaDBBackup
	both = XtraBackup | MariaDBBackup
)

// An Answer is in a word whether hb has another tool's option.
type Answer string

// The answers.
const (
	Yes       Answer = "yes"        // an option of the same name
	Otherwise Answer = "otherwise"  // another way
	Needless  Answer = "not needed" // without an option
	No        Answer = "no"
)

// A Peer is an option of another tool, or several that one answer is for.
type Peer struct {
	Options string // names without dashes, with spaces between; one may end in '*'
	Of      Tool
	Answer  Answer
	Text    string // hb's way, or why it has none; code between backticks. "": nothing to add
	More    string // sentences that are not for a hint
}

// Names are the names of the options.
func (p Peer) Names() []string { return strings.Fields(p.Options) }

// Covers reports whether an option, without dashes, is one of those.
func (p Peer) Covers(option string) bool {
	return slices.ContainsFunc(p.Names(), func(name string) bool {
		prefix, all := strings.CutSuffix(name, "*")
		return name == option || all && strings.HasPrefix(option, prefix)
	})
}

// Hint is the text for a terminal.
func (p Peer) Hint() string { return strings.ReplaceAll(p.Text, "`", "") }

// sentences are all that is said, for a page.
func (p Peer) sentences() string {
	text := p.Text
	if text == "" {
		return p.More
	}
	if first, rest, _ := strings.Cut(text, " "); !strings.HasPrefix(first, "hb") { // which is a name
		text = strings.ToUpper(first[:1]) + first[1:] + " " + rest
	}
	return strings.TrimSpace(text + ". " + p.More)
}

// A PeerGroup is options that belong together.
type PeerGroup struct {
	Title string
	Peers []Peer
}

// Peers are the options of XtraBackup and of mariadb-backup. Of two lines that an
// option is in, the first counts.
var Peers = []PeerGroup{
	{"Actions", []Peer{
		{"backup", both, Otherwise, "it is a command: `hb backup > FILE`", ""},
		{"prepare", both, Otherwise, "it is a command: `hb apply DIR`", "`hb extract --apply` extracts and prepares in one pass."},
		{"apply-log", both, Otherwise, "`hb apply DIR` prepares a backup", ""},
		{"apply-log-only apply-redo-only", XtraBackup, Needless, "`hb merge` puts increments onto a full backup before `hb apply`", "`hb apply` rolls nothing back: the server does that when it starts."},
		{"copy-back move-back", both, Needless, "extract directly into the server's data directory: `hb extract --apply -C DIR`", ""},
		{"force-non-empty-directories", both, No, "`hb extract` only accepts an empty directory", ""},
		{"decompress", both, Needless, "`hb extract` removes compression by itself", "It leaves files that the other tool compressed one by one as they are."},
		{"decrypt", XtraBackup, Otherwise, "`hb extract -i KEYFILE` opens age's encryption; see hb help stages", ""},
		{"remove-original", both, Needless, "`hb extract` removes compression and encryption by itself, and does not change the archive", ""},
		{"export", both, Yes, "", "It is an option of `hb apply`. `hb extract --table DB.TABLE`, or `--database DB`, makes the files of single tables from the archive, and `--into` imports them. Both roll nothing back: a server does, with `--server`."},
		{"print-param", both, Otherwise, "the archive's `backup-my.cnf` has these settings", ""},
		{"print-defaults", both, Yes, "", "It prints a group `[hb]`, with the source of each setting."},
		{"check-tables", XtraBackup, Otherwise, "`hb verify` checks a backup, and `hb verify --replay` rehearses its recovery", "It checks each page, but not the order of an index; for that run CHECK TABLE on a restored server."},
		{"verify sha256", XtraBackup, Otherwise, "every archive has the size and the CRC-32 of each file; `hb verify` checks them", "(Announced for a later release of XtraBackup.)"},
		{"cloud-storage download delete", XtraBackup, Otherwise, "use the store's own client: `hb backup | aws s3 cp - s3://BUCKET/NAME`", "(Announced for a later release of XtraBackup.)"},
		{"stats", XtraBackup, No, "hb does not look into indexes", "(Only 2.4.)"},
		{"compact rebuild-indexes rebuild-threads", XtraBackup, No, "all pages are backed up, those of indexes too", "(Only 2.4.)"},
		{"innobackupex", both, No, "hb has no compatibility mode", ""},
		{"version help", both, Yes, "", ""},
		{"verbose", MariaDBBackup, Needless, "hb has no more to print; `--quiet` suppresses everything but warnings", ""},
	}},
	{"Destination and speed", []Peer{
		{"target-dir", both, Otherwise, "`hb backup` writes to standard output: `hb backup | hb extract -C DIR`; and a directory to prepare is an argument: `hb apply DIR`", ""},
		{"stream", both, Needless, "`hb backup` always streams to standard output: `hb backup > FILE`", "The format is xbstream's."},
		{"fifo-streams fifo-dir fifo-timeout", XtraBackup, No, "`hb backup` writes one stream to standard output; `--parallel N` sets the number of readers", ""},
		{"parallel", both, Yes, "", "The default is the number of processors (backup: at most 8), not 1. Several readers share a large file. `hb extract`, `hb apply` and `hb verify` have the option too."},
		{"throttle", XtraBackup, Yes, "it is in bytes per second: `--throttle 50MiB`", "XtraBackup counts chunks of 10 MB: instead of its `--throttle=5` use `--throttle=50MB`. hb's `--throttle=5` means 5 bytes per second."},
		{"throttle", MariaDBBackup, Yes, "it is in bytes per second: `--throttle 50MiB`", "mariadb-backup counts pairs of a read and a write. hb's `--throttle=5` means 5 bytes per second."},
		{"read-buffer-size", XtraBackup, Needless, "hb chooses it", ""},
		{"tmpdir", both, Yes, "", "One directory. hb spools there what the archive cannot take yet."},
		{"extra-lsndir", both, Otherwise, "`--info-file FILE` keeps the status of the backup, with its LSNs", ""},
		{"rsync", both, Otherwise, "send the archive through a pipe: `hb backup | ssh HOST \"hb extract -C DIR\"`", ""},
		{"datadir", both, Yes, "", "hb asks the server for it; the option gives the path as hb sees it. `-h` is the host."},
		{"open-files-limit", both, Needless, "the process's limit applies: `ulimit -n`", ""},
		{"close-files", both, Needless, "the process's limit of open files applies: `ulimit -n`", ""},
		{"log-copy-interval", both, Needless, "hb chooses it", ""},
	}},
	{"Compression and encryption of the backup", []Peer{
		{"compress", both, Yes, "", "It compresses the whole archive with zstd, not file by file. The option has no value."},
		{"compress-zstd-level", XtraBackup, Otherwise, "it is `--compress-level`", "The default is 3, not 1."},
		{"compress-threads", both, Needless, "hb compresses with all processors: `--compress`", ""},
		{"compress-chunk-size", both, Needless, "hb compresses the whole archive; see hb help stages", ""},
		{"encrypt", XtraBackup, Otherwise, "it is `--encrypt-to RECIPIENT`, `--encrypt-to-file` or `--encrypt-passphrase-file`; see hb help stages", "The format is age's."},
		{"encrypt-key", XtraBackup, Otherwise, "it is `--encrypt-to RECIPIENT` to encrypt, and `--identity FILE` to decrypt; see hb help stages", "The machine that makes backups does not need the key that decrypts them."},
		{"encrypt-key-file", XtraBackup, Otherwise, "it is `--encrypt-to-file FILE` to encrypt, and `--identity FILE` to decrypt; see hb help stages", ""},
		{"encrypt-threads", XtraBackup, Needless, "age uses one thread", ""},
		{"encrypt-chunk-size", XtraBackup, Needless, "the chunks of age's format have a fixed size", ""},
	}},
	{"Partial backups", []Peer{
		{"tables tables-exclude", both, Yes, "", "Extended regular expressions that mean the same to the C library and to Go; hb refuses others. They choose whole tables: no single partitions."},
		{"databases databases-file tables-file", both, Yes, "", "Unlike the other tool, hb also copies the FULLTEXT auxiliary tables of a chosen table, and always the databases mysql, sys and performance_schema."},
		{"databases-exclude", both, Yes, "", "A name `db.table` leaves out only that table."},
	}},
	{"Incremental backups", []Peer{
		{"incremental page-tracking page-tracking-merge-gap", XtraBackup, Otherwise, "it is `--since`; hb uses page tracking if it is on", ""},
		{"incremental-basedir", both, Otherwise, "it is `--since`, with the base's archive, its manifest, or the directory extracted from it", ""},
		{"incremental-lsn incremental-history-name incremental-history-uuid", both, No, "a number does not prove of which backup it is: hb needs the base itself (`--since`)", ""},
		{"incremental-dir", both, Otherwise, "it is `hb merge BASE INCREMENT`, or `hb extract` and `hb verify` with the same", "For directories of mariadb-backup or XtraBackup: `hb apply --merge INCREMENT DIR`, once `hb apply DIR` is done."},
		{"incremental-force-scan", both, Needless, "hb reads all pages, or those of a list that it has checked", ""},
		{"to-archived-lsn innodb-log-arch-dir", XtraBackup, No, "hb applies the whole redo log of a backup", "(Only 2.4.)"},
	}},
	{"Locks and replication", []Peer{
		{"lock-ddl", XtraBackup, Yes, "", "`ON` or `REDUCED`, which is the default. There is no `OFF`."},
		{"lock-ddl-timeout backup-lock-timeout", XtraBackup, Otherwise, "it is `--lock-wait-timeout`", "The default is 60 seconds."},
		{"backup-lock-retry-count", XtraBackup, Needless, "hb waits for a lock, or asks for it again, until `--lock-wait-timeout`", ""},
		{"startup-wait-timeout ftwrl-wait-timeout", MariaDBBackup, Otherwise, "it is `--lock-wait-timeout`", "The default is 60 seconds. hb's `--ftwrl-wait-timeout` is for MySQL."},
		{"ftwrl-wait-threshold ftwrl-wait-query-type kill-long-queries-timeout kill-long-query-type", MariaDBBackup, Needless, "hb takes no FLUSH TABLES WITH READ LOCK on MariaDB", "hb's options of these names are for MySQL."},
		{"ftwrl-wait-timeout ftwrl-wait-threshold ftwrl-wait-query-type kill-long-queries-timeout", XtraBackup, Yes, "", ""},
		{"kill-long-query-type", XtraBackup, Yes, "", "The default is all, not select."},
		{"lock-ddl-per-table", XtraBackup, Yes, "", "For MySQL 5.6 and 5.7. It is not needed: hb copies again what DDL changed."},
		{"lock-ddl-per-table", MariaDBBackup, Needless, "hb copies again what DDL changed", "hb's option of this name is for MySQL 5.6 and 5.7."},
		{"no-lock", both, No, "hb does not make backups that may be inconsistent; see hb help locks", ""},
		{"no-backup-locks", both, No, "hb takes the locks that the server has; see hb help locks", ""},
		{"backup-locks", XtraBackup, Needless, "hb takes the locks that the server has; see hb help locks", ""},
		{"safe-slave-backup safe-slave-backup-timeout", XtraBackup, Yes, "", "hb stops the SQL threads while it holds the last lock, and with `--lock-ddl=ON` while it copies pages."},
		{"safe-slave-backup safe-slave-backup-timeout", MariaDBBackup, No, "hb stops no replication on MariaDB", "hb's option of this name is for MySQL; on MariaDB hb warns that it has no effect."},
		{"slave-info", both, Yes, "", "The file has the same name and form as that of the server's own tool."},
		{"galera-info", MariaDBBackup, Yes, "", ""},
		{"galera-info", XtraBackup, No, "hb records Galera's position only on MariaDB", ""},
	}},
	{"Redo log", []Peer{
		{"redo-log-arch-dir", XtraBackup, Needless, "hb reads the server's redo log without ever waiting for the archive", ""},
		{"register-redo-log-consumer", XtraBackup, Needless, "hb registers itself on servers that support it (8.0.30 and later)", ""},
		{"innodb-log-checkpoint-now", MariaDBBackup, No, "hb begins at the newest checkpoint", "SET GLOBAL innodb_log_checkpoint_now=1 makes the server write one."},
	}},
	{"Records and checks", []Peer{
		{"binlog-info", both, Needless, "hb always records the binary log position", ""},
		{"history", both, Otherwise, "`--info-file FILE` keeps the status of the backup; hb writes nothing to the server", ""},
		{"dump-innodb-buffer-pool dump-innodb-buffer-pool-timeout dump-innodb-buffer-pool-pct", XtraBackup, Yes, "", ""},
		{"no-version-check", both, Needless, "hb does not look for new versions", ""},
		{"no-server-version-check", XtraBackup, No, "hb refuses servers whose formats it does not know; `hb version` lists the supported ones", ""},
		{"tables-compatibility-check", XtraBackup, Needless, "`hb backup` always checks the engines, before it locks or writes anything", ""},
		{"check-privileges", both, Needless, "`hb backup` always checks the privileges, before it locks or writes anything", "`hb check` prints the GRANT statements."},
		{"strict", XtraBackup, Needless, "an unknown option is an error", ""},
		{"log-innodb-page-corruption", MariaDBBackup, No, "a damaged page makes the backup fail, and hb names it", ""},
		{"extended-validation", MariaDBBackup, Needless, "hb always checks what can be checked without keys: every page when it copies it (page_compressed pages after decompression), and that no page claims a key in a table with ENCRYPTED=NO", ""},
	}},
	{"Preparing", []Peer{
		{"use-memory", both, Otherwise, "it is `--memory SIZE`", "The default is 256 MiB. hb sorts on disk what does not fit, and reads and writes each page at most once."},
		{"estimate-memory", XtraBackup, Needless, "hb reads no page twice, whatever `--memory` is", ""},
		{"use-free-memory-pct", XtraBackup, Otherwise, "it is `--memory SIZE`", ""},
		{"rollback-prepared-trx", XtraBackup, No, "external XA transactions stay prepared, and the server can roll them back", ""},
		{"page-lsn-map use-page-lsn-map", XtraBackup, Needless, "hb skips records that a page already has, by the page's LSN", "(Announced for a later release of XtraBackup.)"},
		{"innodb-force-recovery", both, No, "`hb apply` refuses damaged backups", ""},
		{"innodb-*", both, Needless, "hb asks the server, and puts the settings that recovery needs into `backup-my.cnf`", ""},
		{"aria-log-dir-path", MariaDBBackup, Needless, "hb asks the server where its files are", ""},
		{"log-bin", both, Yes, "", "For `hb apply`, on MySQL 8.0 and later: where the restored server keeps its binary log."},
		{"mysqld-args", MariaDBBackup, No, "hb takes no options of the server", ""},
		{"plugin-dir", MariaDBBackup, Needless, "hb loads no plugins of the server", ""},
	}},
	{"Encryption at rest", []Peer{
		{"keyring-file-data component-keyring-config component-keyring-file-config", XtraBackup, Otherwise, "name the keyring's file: `--keyring FILE`", "`hb backup` finds the file of component_keyring_file by itself. hb refuses encryption at rest of servers before 8.0.30."},
		{"xtrabackup-plugin-dir plugin-load", XtraBackup, Needless, "hb loads no plugins of the server", ""},
		{"transition-key generate-transition-key", XtraBackup, Otherwise, "with `--encrypt-to`, the backup has the keys: `hb apply -i IDENTITY`", "`--write-keyring FILE` writes them for the restored server. hb does not read XtraBackup's xtrabackup_keys: give it `--keyring FILE`."},
		{"generate-new-master-key reencrypt-for-server-id", XtraBackup, Otherwise, "it is `hb apply --new-master-key --write-keyring FILE`", "Without it, the restored server starts with the master keys of the original."},
		{"encrypted-backup", MariaDBBackup, Otherwise, "hb backs encrypted tablespaces up as they are, and `hb apply` takes `--key-file`", "`hb backup` takes it too, for an encrypted redo log and encrypted Aria tables."},
	}},
	{"Connection and option files", []Peer{
		{"user password host port socket", both, Yes, "", "`-h` is the host. `-p` without a password asks for one."},
		{"protocol", MariaDBBackup, Yes, "", "tcp or socket."},
		{"login-path", both, No, "hb reads option files, and passwords from `--password-file`; see hb help options", ""},
		{"defaults-file defaults-extra-file defaults-group-suffix no-defaults", both, Yes, "", "hb reads the groups `[client]`, `[client-server]`, `[client-mariadb]` and `[hb]`."},
		{"defaults-group", both, No, "hb reads the groups `[client]` and `[hb]`; `--defaults-group-suffix` names more; see hb help options", ""},
		{"ssl", both, Otherwise, "it is `--ssl-mode REQUIRED`", ""},
		{"ssl-mode", XtraBackup, Yes, "", ""},
		{"ssl-ca ssl-cert ssl-key", both, Yes, "", ""},
		{"ssl-verify-server-cert", MariaDBBackup, Yes, "", "It is off by default; in mariadb-backup 11.8 it is on."},
		{"ssl-capath ssl-crl ssl-crlpath", both, No, "`--ssl-ca FILE` names one file with the certificates to trust", ""},
		{"ssl-fp ssl-fplist", MariaDBBackup, No, "`--ssl-ca FILE` names one file with the certificates to trust", ""},
		{"ssl-cipher tls-*", both, Needless, "hb takes TLS 1.2 or later, with the ciphers that Go chooses", ""},
		{"ssl-*", XtraBackup, No, "hb has `--ssl-mode`, `--ssl-ca`, `--ssl-cert` and `--ssl-key`", ""},
		{"get-server-public-key server-public-key-path", XtraBackup, Needless, "hb asks the server for its key when it needs it", "That is over TCP without TLS; hb does not verify the key."},
		{"secure-auth", MariaDBBackup, Needless, "hb does not support the old protocol", ""},
	}},
	{"Other engines, and other options", []Peer{
		{"rocksdb-datadir rocksdb-wal-dir rocksdb-checkpoint-max-age rocksdb-checkpoint-max-count", XtraBackup, No, "servers with MyRocks tables are not supported", ""},
		{"rocksdb-datadir rocksdb-backup", MariaDBBackup, No, "servers with MyRocks tables are not supported", ""},
		{"core-file", both, No, "it is for that tool's developers", ""},
		{"debug-sync debug-sleep-before-unlock", XtraBackup, No, "it is for that tool's developers", ""},
		{"log innodb", both, Needless, "it has no effect in that tool either", ""},
		{"server-id", XtraBackup, Needless, "it has no effect in that tool either", ""},
	}},
}

// Programs are what stands beside those tools, by how it is called.
var Programs = []Peer{
	{"`xbstream -x`, with `-C DIR`", XtraBackup, Otherwise, "`hb extract -C DIR`", "The format is the same. hb also detects incomplete archives."},
	{"`mbstream -x`, with `-C DIR`", MariaDBBackup, Otherwise, "`hb extract -C DIR`", "Either program reads the other's archives. hb also detects incomplete archives."},
	{"`xbstream -c`", XtraBackup, No, "hb does not archive arbitrary files", ""},
	{"`mbstream -c`", MariaDBBackup, No, "hb does not archive arbitrary files", ""},
	{"`xbstream -v`", XtraBackup, Otherwise, "`hb list` lists an archive", ""},
	{"`mbstream -v`", MariaDBBackup, Otherwise, "`hb list` lists an archive", ""},
	{"`xbstream --parallel`", XtraBackup, Otherwise, "`hb extract --parallel N`", ""},
	{"`mbstream -p`, `--parallel`", MariaDBBackup, Otherwise, "`hb extract --parallel N`", ""},
	{"`xbstream -P`", XtraBackup, No, "hb refuses an archive with a path that is absolute or leads out of the directory", ""},
	{"`xbstream --decompress`, --decompress-threads, --decrypt, --encrypt-key, --encrypt-key-file, --encrypt-threads", XtraBackup, No, "hb extracts files that are compressed or encrypted one by one as they are", "It says so. Unpack them with that tool, then `hb apply`."},
	{"`xbstream --fifo-streams`, --fifo-dir, --fifo-timeout", XtraBackup, No, "hb reads one stream", ""},
	{"`xbcrypt`, with `-d`, `-a`, `-k`, `-f`, `-s`, `-i`, `-o`, `-v`, --encrypt-threads, --read-buffer-size", XtraBackup, No, "hb's encryption is age's, and `age` opens it", "hb refuses an archive that went through `xbcrypt` as a whole, and names the program that opens it."},
	{"`xbcloud put`", XtraBackup, Otherwise, "`hb backup | aws s3 cp - s3://BUCKET/NAME`, or any client that reads a pipe", ""},
	{"`xbcloud get`", XtraBackup, Otherwise, "`aws s3 cp s3://BUCKET/NAME - | hb extract -C DIR`", ""},
	{"`xbcloud delete`", XtraBackup, Otherwise, "`aws s3 rm s3://BUCKET/NAME`", "A backup is one object, so the store's own lifecycle rules can remove it."},
	{"`xbcloud --storage`, credentials, --s3-storage-class, --s3-bucket-lookup, --parallel, --md5, --max-retries, --max-backoff, --curl-retriable-errors, --http-retriable-errors, --timeout, --insecure, --cacert, --header, `--fifo-*`", XtraBackup, Needless, "these are options of the store's client", ""},
}

// peer returns what Peers has of an option, without dashes.
func peer(option string) (Peer, bool) {
	for _, g := range Peers {
		if i := slices.IndexFunc(g.Peers, func(p Peer) bool { return p.Covers(option) }); i >= 0 {
			return g.Peers[i], true
		}
	}
	return Peer{}, false
}

// PeerTables are Peers and Programs, as far as they are of a tool, in Markdown.
func PeerTables(tool Tool) string {
	s := new(sheet)
	for _, g := range Peers {
		s.peers(g.Title, "option", tool, g.Peers, func(p Peer) string {
			return "`--" + strings.Join(p.Names(), "`, `--") + "`"
		})
	}
	s.peers("Other programs", "program", tool, Programs, func(p Peer) string { return prosaic(p.Options) })
	return s.String()
}

// peers is the table of those that are a tool's, under a title.
func (s *sheet) peers(title, what string, tool Tool, list []Peer, name func(Peer) string) {
	var rows [][]string
	for _, p := range list {
		if p.Of&tool == 0 {
			continue
		}
		rows = append(rows, []string{name(p), string(p.Answer), prosaic(p.sentences())})
	}
	if len(rows) > 0 {
		s.head(3, title)
		s.table([]string{what, "in hb", "how, or why not"}, rows)
	}
}
