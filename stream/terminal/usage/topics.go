package usage

import (
	"cmp"
	"slices"
)

// A Topic is a subject that hb help explains in addition to the commands.
type Topic struct {
	Name, Title, Text string
}

// exitTopic is the one that manual pages have a section of their own for.
const exitTopic = "exit-codes"

// topics are all topics, in the order in which they are listed.
var topics = []Topic{
	{"restore", "From an archive to a running server", `A restore has three steps: extract the archive, replay the redo log, start a server.

	hb extract -C /var/lib/mysql backup.hb
	hb apply /var/lib/mysql
	chown -R mysql: /var/lib/mysql
	systemctl start mariadb

With --apply, the first two steps are one pass over the data:

	hb extract --apply -C /var/lib/mysql backup.hb

The directory must be empty or not exist. The server must be of the series that was backed up, with the same innodb_page_size, innodb_data_file_path and innodb_undo_tablespaces. At its end hb apply reports that a server can start. If hb apply was interrupted, no server starts on the directory; run hb apply again to continue.

A new replica starts from a position in the directory: xtrabackup_binlog_info or mariadb_backup_binlog_info has the position of the server that was backed up; with --slave-info, xtrabackup_slave_info or mariadb_backup_slave_info has the position of that server's own source.

At its first start the server settles transactions that were prepared for the binary log, using the end of the binary log in the archive. If the original server kept its binary log outside the data directory, hb apply asks for log_bin of the restored server (--log-bin), and puts the log there; with --in-place it takes the original place. External XA transactions stay prepared.

hb verify --replay rehearses the first two steps without writing the directory.`},

	{"options", "Sources of options", `You can set every option of every command outside the command line. The first of these sources that sets an option wins:

1.	the command line
2.	the environment: HB_ and the option's name in capitals, with '_' for '-'; HB_COMPRESS_LEVEL is --compress-level. Separate several values of an option with commas. An empty variable counts as unset. hb warns of a variable HB_... that no command has, and refuses one that resembles an option for encryption, compression or TLS
3.	option files; the last line wins. Give several values of an option on several lines
4.	for the connection, the variables of the servers' clients: MYSQL_HOST, MYSQL_TCP_PORT, MYSQL_UNIX_PORT, MYSQL_PWD
5.	the default

Option files are those of the servers' clients, such as /etc/my.cnf, /etc/mysql/my.cnf and ~/.my.cnf, with what they include. With --defaults-file hb reads only that file, with --defaults-extra-file it reads one more, and with --no-defaults it reads none. Groups [client], [client-server] and [client-mariadb] configure the connection. Group [hb] may have any option of hb and applies to all commands: a command ignores options that only another command has. An option that no command has is an error, unless it begins with loose-.

	[hb]
	user=backup
	throttle=50MiB
	compress
	encrypt-to-file=/etc/hb/keys

Put the password into HB_PASSWORD, MYSQL_PWD, an option file, or a file that --password-file names. hb overwrites --password on its command line as soon as it starts, but other users may see it before that. -p asks for the password.

A size is a number of bytes, optionally with a unit: K, M, G, T and KiB, MiB, GiB, TiB are powers of 1024; KB, MB, GB, TB are powers of 1000. A time is a number of seconds, or has units: 90, 2m30s.

hb backup --print-defaults shows which options are set and where, as a group [hb] that you can paste.`},

	{"stages", "Compression and encryption, by hb or by other programs", `An archive can pass through two stages, in this order: compression with zstd, then encryption with age. hb has both built in; the programs zstd and age do the same. A reader detects the stages from the first bytes and removes them, whichever program applied them.

	hb backup --compress --encrypt-to age1... > backup.hb
	hb backup | zstd | age -r age1... > backup.hb
	hb extract -i key.txt -C dir backup.hb

Both give the same result, but when hb runs every stage, its exit code covers every stage; in a shell pipeline, use set -o pipefail for that. An archive that hb compressed can also be read from the middle; one that zstd compressed cannot.

--encrypt-to takes an age recipient (age1...) or an SSH public key (ssh-ed25519, ssh-rsa), and --encrypt-to-file a file of several; the owner of each can decrypt the archive. --encrypt-passphrase-file encrypts with a passphrase instead. To decrypt, give --identity or --passphrase-file; without either, hb asks for the passphrase on the terminal. age-keygen creates keys.

You do not need hb to unpack an archive:

	age -d -i key.txt backup.hb | zstd -d | mbstream -x -C dir

A program that stores what is equal in several backups once, such as restic, finds more of that in hb backup --parallel 1, with neither stage: several readers mix the files in another order each time.

A truncated stage, or one with a single changed bit, is an error.`},

	{"locks", "What waits for the backup's locks, and for how long", `A slow archive prolongs no lock: hb spools files that it copies under a lock, and the redo log of that time, to --tmpdir. hb waits for each lock for at most --lock-wait-timeout (exit code 5). It waits that long, too, for another hb that backs up the same server, before it copies anything.

MariaDB:	BACKUP STAGE. DDL continues while hb copies pages. At the end, DDL and writes to MyISAM tables wait while hb copies the last changed files. Commits wait only for the few milliseconds in which hb reads the position.
MySQL 8.0 and later:	DDL continues while hb copies pages. It waits for LOCK INSTANCE FOR BACKUP for a moment at the beginning, and a few times later, each time for a second at most; and at the end, while hb copies what DDL changed last. --lock-ddl=ON holds the lock during the whole copy. So does an incremental backup that reads only the pages which the server lists as changed. Commits do not wait. At the end hb takes FLUSH TABLES ... WITH READ LOCK only for non-transactional tables, if there are any.
MySQL 5.6 and 5.7:	DDL continues while hb copies pages. At the end all writers wait for FLUSH TABLES WITH READ LOCK while hb copies the last changes.
Percona Server:	as the MySQL release that it is based on, with its own backup locks.

FLUSH TABLES WITH READ LOCK waits for long-running statements, and blocks all later ones meanwhile. --ftwrl-wait-timeout waits for such statements first; --kill-long-queries-timeout kills them.

On a replica, --safe-slave-backup stops the SQL threads, once none of their temporary tables is open, while hb reads the position.

At its end hb backup reports how long it waited for each lock and held it. There is no --no-lock: hb does not make backups that may be inconsistent.`},

	{"archive", "What an archive is", `An archive is a stream of files in the format of xbstream and mbstream; those programs can unpack it too. It may be inside stages: see hb help stages.

The first file is hb-archive.json, which names the program and the server. Then come the pages of tablespaces in the order in which hb read them, so that files alternate; the redo log; files of other engines; what DDL changed during the copy; metadata under the names of XtraBackup or mariadb-backup; an index, hb-index, of where each file lies; and finally the manifest, hb-manifest.json, with the size and checksum of every file.

An archive without its manifest is incomplete. hb verify checks this, and everything else that can be checked without restoring.

	hb list backup.hb
	hb verify backup.hb
	xbstream -x -C dir < backup.hb

An archive in a file can be read from the middle, also through the stages that hb made: hb list and hb extract --files then read only its ends and the parts that they need. The same works for an https:// address that answers range requests, such as a presigned URL of an object store; hb extract and hb verify read a whole archive from there, too. If a connection breaks, hb continues at the byte where it broke, and it notices if the object is replaced. hb trusts the certificates of the system (or of SSL_CERT_FILE), uses the proxy in HTTPS_PROXY, and never prints what follows the ? in an address.

	hb extract --files 'shop/orders.*' -C dir backup.hb
	hb verify "$(aws s3 presign s3://backups/backup.hb)"

hb apply and hb verify accept directories made by mariadb-backup, and mariadb-backup can prepare what hb extracted. For MySQL, they accept directories in XtraBackup's form; hb was tested with such directories, but not with XtraBackup itself.`},

	{"messages", "Messages as JSON, for programs", messageTopic()},

	{exitTopic, "What exit codes mean", allExits() + `
When a signal interrupts hb, it releases all locks and exits with 130. The help of each command lists its exit codes.`},
}

// words for topics that people look for.
var topicWords = map[string]string{"json": "messages", "monitoring": "messages", "log": "messages", "encryption": "stages", "compression": "stages", "errors": "exit-codes",
	"prepare": "restore", "recovery": "restore", "replica": "restore", "replication": "restore", "gtid": "restore", "stream": "stages", "streaming": "stages"}

// topic returns the topic of that name.
func topic(name string) (Topic, bool) {
	name = cmp.Or(topicWords[name], name)
	i := slices.IndexFunc(topics, func(t Topic) bool { return t.Name == name })
	if i < 0 {
		return Topic{}, false
	}
	return topics[i], true
}

// topicNames are the names of all topics.
func topicNames() (names []string) {
	for _, t := range topics {
		names = append(names, t.Name)
	}
	return names
}
