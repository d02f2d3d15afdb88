package usage

import (
	"slices"
)

// A Topic is something that hb help explains beside the commands.
type Topic struct {
	Name, Title, Text string
}

// exitTopic is the one that manual pages have a section of their own for.
const exitTopic = "exit-codes"

// topics are all topics, in the order in which they are listed.
var topics = []Topic{
	{"restore", "From an archive to a server that runs", `A restore is three steps: unpack the archive, replay the redo log, start a server.

	hb extract -C /var/lib/mysql backup.hb
	hb apply /var/lib/mysql
	chown -R mysql: /var/lib/mysql
	systemctl start mariadb

The first two are one pass over the data with --apply:

	hb extract --apply -C /var/lib/mysql backup.hb

The directory must be empty, or not there yet. The server must be of the series that was backed up, and be set to the same innodb_page_size, innodb_data_file_path and innodb_undo_tablespaces. hb apply says at its end that a server can start. Where it was interrupted, a server refuses the directory, and hb apply again goes on.

A new replica starts from the position in the directory: xtrabackup_binlog_info or mariadb_backup_binlog_info has that of the server that was backed up; with --slave-info, xtrabackup_slave_info or mariadb_backup_slave_info has that of its own source.

Transactions that were prepared for the binary log are settled by the server at its first start, by the end of the binary log that the archive holds: put it where log_bin says, if that is not the data directory. External XA transactions stay prepared.

hb verify --replay rehearses the first two steps, without writing the directory.`},

	{"options", "Where options come from", `Every option of every command can be set elsewhere than on the command line. The first of these counts:

1.	the command line
2.	the environment: HB_ and the option's name in capitals, with '_' for '-'; HB_COMPRESS_LEVEL is --compress-level. Options that may be repeated have commas between their values. An empty variable is none
3.	for the connection, the variables of the servers' clients: MYSQL_HOST, MYSQL_TCP_PORT, MYSQL_UNIX_PORT, MYSQL_PWD
4.	option files, the last line counting. Options that may be repeated have a line for each value
5.	the default

Option files are those of the servers' clients, such as /etc/my.cnf, /etc/mysql/my.cnf and ~/.my.cnf, with what they include. --defaults-file names the only one to read, --defaults-extra-file one more; --no-defaults reads none. Their groups [client], [client-server] and [client-mariadb] say how to connect; [hb] has all options of hb, and is for all commands: what only another command has is passed over there, what none has is a mistake, unless it begins with loose-.

	[hb]
	user=backup
	throttle=50MiB
	compress
	encrypt-to-file=/etc/hb/keys

Passwords are in HB_PASSWORD, MYSQL_PWD or an option file, or in a file that --password-file names; --password on the command line is overwritten as soon as hb starts, but may be seen before. -p asks for it.

A size is a number of bytes, or has a unit: K, M, G, T and KiB, MiB, GiB, TiB count by 1024, KB, MB, GB, TB by 1000. A time is a number of seconds, or has units: 90, 2m30s.

hb backup --print-defaults shows what is set, and by what, as a group [hb] that can be pasted.`},

	{"stages", "Compression, encryption, and other programs in the pipe", `An archive can go through stages on its way, in this order: compression with zstd, then encryption with age. hb has both, and so have the programs of these names. What reads an archive recognises by its first bytes what was done, and undoes it, whoever did it.

	hb backup --compress --encrypt-to age1... > backup.hb
	hb backup | zstd | age -r age1... > backup.hb
	hb extract -i key.txt -C dir backup.hb

The two backups are alike, but for one thing: where hb does it all, its exit code tells of all of it. In a shell's pipeline that is what set -o pipefail is for.

--encrypt-to takes age recipients (age1...) and SSH public keys (ssh-ed25519, ssh-rsa), --encrypt-to-file a file with several of them; each of their owners can read the archive. --encrypt-passphrase-file takes a passphrase instead. What opens it is --identity or --passphrase-file; without either hb asks for the passphrase on the terminal. age-keygen makes keys.

hb is not needed to unpack:

	age -d -i key.txt backup.hb | zstd -d | mbstream -x -C dir

A stage that is cut off, or in which one bit is changed, is an error.`},

	{"locks", "How long who waits while a backup runs", `No lock lasts longer because the archive is slow: what is copied under a lock, and the redo log meanwhile, are spooled to --tmpdir. hb waits for each lock for --lock-wait-timeout at most (exit code 5).

MariaDB:	BACKUP STAGE. DDL goes on while pages are copied, and waits at the end, with writers of MyISAM tables, while what changed last is copied again. Commits wait only while the position is taken, a few milliseconds.
MySQL 8.0 and later:	LOCK INSTANCE FOR BACKUP: DDL waits for the whole copy. Commits do not wait. FLUSH TABLES ... WITH READ LOCK is taken for tables without transactions alone, where there are any, at the end.
MySQL 5.6 and 5.7:	DDL goes on while pages are copied. Under FLUSH TABLES WITH READ LOCK at the end all writers wait, while what changed last is copied again.
Percona Server:	as the MySQL that it is built on, with its own backup locks.

FLUSH TABLES WITH READ LOCK waits for long statements, and holds all later ones up. --ftwrl-wait-timeout waits for them before, --kill-long-queries-timeout ends them.

On a replica --safe-slave-backup stops the SQL threads while the position is taken, when none of their temporary tables is open.

At its end a backup says which locks it waited for and held, for how long. There is no --no-lock: a backup that may be inconsistent is not offered.`},

	{"archive", "What an archive is", `An archive is a stream of files in the format of xbstream and mbstream, which those programs unpack as well. Around it there may be stages: see hb help stages.

The first file is hb-archive.json: what made the archive, of what server. Then come pages of tablespaces as they were read, so that files alternate; the redo log; files of other engines; what DDL changed meanwhile; metadata under the names of XtraBackup or mariadb-backup; and last the manifest, hb-manifest.json, with the size and checksum of every file.

An archive without its manifest is incomplete: an archive proves that it is complete. hb verify checks that, and everything else that can be known.

	hb list backup.hb
	hb verify backup.hb
	xbstream -x -C dir < backup.hb

A directory that mariadb-backup made can be given to hb apply and hb verify, and mariadb-backup can prepare what hb extracted. Of MySQL it is the form that XtraBackup's directories have; hb was tested with directories of that form, but not with XtraBackup itself.`},

	{exitTopic, "What exit codes mean", allExits() + `
A signal that interrupts hb ends the command with 130, when all locks are released. Each command's own help has those that it can give.`},
}

// topic returns the topic of that name.
func topic(name string) (Topic, bool) {
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
