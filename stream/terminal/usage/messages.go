package usage

import (
	"fmt"
	"slices"
	"strings"
)

// MessageSchema is the version of what JSON messages, and the other JSON that hb
// writes, have. Events and keys may be added without a new one; what is there keeps
// its name, its type and its meaning.
const MessageSchema = 1

// A Key is a key of a JSON object.
type Key struct {
	Name string
	// Type is string, time (RFC 3339), integer, number, boolean, strings or
	// integers (arrays), map (of integers by a name), the name of an Object, or "array of" such a name.
	Type    string
	Of      string // the commands that it is of, with spaces between; "": all
	Always  bool   // it is never left out; of those commands
	Meaning string
}

// An Event is a kind of message, as JSON.
type Event struct {
	Name string
	Of   string // the commands that it is of, with spaces between; "": all
	When string
	Keys []Key // besides those of all messages
}

// An Object is a JSON object in others, or in a file.
type Object struct {
	Name, What string
	Keys       []Key
}

// MessageKeys are the keys of all messages.
var MessageKeys = []Key{
	{"time", "time", "", true, "when hb wrote the message"},
	{"level", "string", "", true, "INFO, WARN or ERROR"},
	{"event", "string", "", true, "what the message is about; see below"},
	{"msg", "string", "", true, "text for people; it may change with any release"},
}

// Keys that several events have.
var (
	binlogKey  = Key{"binlog", "position", workers, false, "the position of the binary log that belongs to the backup, if the server writes one"}
	fromKey    = Key{"from_lsn", "integer", "backup extract apply verify list merge", false, "the checkpoint at which the redo log of the backup begins"}
	lastKey    = Key{"last_lsn", "integer", "backup extract apply verify list merge", false, "the LSN that the backup is of: the end of its redo log"}
	filesKey   = Key{"files", "integer", readers, false, "number of files"}
	serverKey  = Key{"server", "string", readers, false, "family and version of the server that was backed up"}
	createdKey = Key{"created", "time", readers, false, "when the backup began"}
	foreignKey = Key{"foreign", "boolean", readers, false, "whether another program than hb made the backup, so that nothing proves it complete"}
)

// Messages are all events.
var Messages = []Event{
	{"start", workers, "first, once the command line has been read", []Key{
		{"command", "string", "", true, "the command, such as backup"},
		{"hb_version", "string", "", true, "version of hb"},
		{"schema", "integer", "", true, "version of this schema: 1"},
		{"archive", "string", readers, false, "the archive's file, or - for standard input"},
		{"increments", "strings", "extract verify merge", false, "the increments' files, if there are any"},
		{"directory", "string", "extract apply verify", false, "the directory"},
	}},
	{"progress", "backup extract apply verify merge", "every 30 seconds, and whenever hb receives SIGUSR1", []Key{
		{"phase", "string", "", true, "what hb is doing"},
		{"done", "integer", "", true, "bytes of the phase that are done"},
		{"total", "integer", "", false, "bytes of the phase, if they are known"},
		{"rate", "integer", "", true, "bytes per second, over the last 10 seconds"},
		{"eta_seconds", "integer", "", false, "how long the phase will take at that rate"},
		{"redo_lag", "integer", "", false, "bytes of redo that the server has written and hb has not read"},
		{"spool", "integer", "", false, "bytes of redo that hb has read and the archive has not taken"},
	}},
	{"warning", "", "whenever there is something that you should know, although the command goes on", nil},
	{"extracted", "extract", "with --apply: once the archive is extracted", []Key{
		filesKey, {"bytes", "integer", "", true, "size of the files"}, foreignKey, serverKey, createdKey, binlogKey, fromKey, lastKey,
	}},
	{"finding", "check", "for each check, on standard output", []Key{
		{"check", "string", "", true, "what was checked"},
		{"result", "string", "", true, "ok, warning or FAIL"},
		{"exit_code", "integer", "", false, "of a backup that fails for this reason"},
		{"server", "string", "", false, "family and version of the server"},
		{"grants", "strings", "", false, "the statements that give the account what it lacks"},
		{"base", "string", "", false, "id of the base of an incremental backup"},
		{"redo_capacity", "integer", "", false, "size of the server's redo log in bytes"},
		{"redo_rate", "number", "", false, "bytes of redo per second that the server writes now"},
		{"backup_seconds", "number", "", false, "how long a backup takes, estimated by the size of the tablespaces"},
		{"unsummed_tablespaces", "integer", "", false, "number of tablespaces with pages that have no checksum, among those looked at"},
		{"encrypted_tablespaces", "integer", "", false, "number of tablespaces that are encrypted at rest"},
		{"encrypted", "strings", "", false, "what else is encrypted at rest"},
		{"keys", "strings", "", false, "names of the keys that hb has used"},
		{"keys_in_backup", "boolean", "", false, "whether the backup will have the keys that its restore needs"},
		{"unstored_tables", "integer", "", false, "number of tables whose rows the backup does not have"},
		{"redo_lap_seconds", "number", "", false, "after how long it overwrites its redo log at that rate"},
		{"tables", "integer", "", false, "number of non-transactional tables"},
		{"bytes", "integer", "", false, "their size"},
		{"free", "integer", "", false, "free bytes in --tmpdir"},
		{"staged", "integer", "", false, "bytes of other engines' files that --tmpdir must hold"},
		{"in_memory", "boolean", "", false, "whether --tmpdir is in memory"},
		{"outside", "boolean", "", false, "there are files outside the data directory"},
		{"log_bin", "boolean", "", false, "whether the server writes a binary log"},
	}},
	{"end", "", "last, in any case", []Key{
		{"command", "string", "", false, "the command; left out if the command line cannot be read"},
		{"exit_code", "integer", "", true, "the exit code of hb; 0 means success"},
		{"seconds", "number", "", true, "how long hb ran"},
		{"phase", "string", "backup extract apply verify merge", false, "what hb was doing when it failed"},
		{"bytes", "integer", "backup extract verify list merge", false, "backup, merge: bytes of the archive as standard output took it; otherwise the size of the files"},
		{"bytes_read", "integer", "extract list merge", false, "bytes that were read of the archives as they are stored"},
		{"archive_bytes", "integer", "backup merge", false, "bytes of the archive before compression and encryption"},
		filesKey, foreignKey, serverKey, createdKey, binlogKey, fromKey, lastKey,
		{"exported", "strings", "extract", false, "with --table or --database: the tables, as db.table; files and bytes are then of their files"},
		{"imported", "strings", "extract", false, "with --into: the tables that the server has now, as db.table"},
		{"described_tables", "integer", "apply", false, "with --export: tables that have .cfg files now"},
		{"locks", "array of lock", "backup", false, "the locks that the backup took, in their order"},
		{"manifest", "manifest", "backup", false, "what the archive says of itself"},
		{"pages", "integer", "verify merge", false, "verify: pages that were verified; merge: pages of increments that were laid over others"},
		{"encrypted", "strings", "verify", false, "files of tablespaces that are encrypted at rest"},
		{"sealed_pages", "integer", "verify", false, "with exit code 12: encrypted pages that were not verified, for want of keys"},
		{"sealed_redo", "boolean", "verify", false, "with exit code 12: whether the redo log was not verified, for want of keys"},
		{"stands_for", "string", "merge", false, "id of the last increment in it"},
		{"applied", "boolean", "verify", false, "whether hb apply has finished on the directory"},
		{"already_applied", "boolean", "extract apply", false, "whether that was so before, and hb apply did nothing"},
		{"by_server", "boolean", "extract apply verify", false, "whether the recovery is left to a server"},
		{"recovered_pages", "integer", "extract apply verify", false, "pages that the recovery wrote, or would write"},
		{"estimated_bytes", "integer", "backup", false, "--estimate: size of the archive"},
		{"expected_size", "integer", "backup", false, "--estimate: a size that the archive is not expected to reach"},
		{"tablespaces", "integer", "backup", false, "--estimate: bytes of tablespaces"},
		{"others", "integer", "backup", false, "--estimate: bytes of other files"},
		{"redo", "integer", "backup", false, "--estimate: bytes of redo since the last checkpoint"},
		{"redo_rate", "integer", "backup", false, "--estimate: bytes of redo per second"},
		{"part", "number", "backup", false, "--estimate: the share of its size to which the archive will compress"},
	}},
}

// Objects are what messages and files have inside.
var Objects = []Object{
	{"position", "a position of the binary log", []Key{
		{"file", "string", "", false, "the file; left out if there is only a GTID set"},
		{"pos", "integer", "", true, "the position in the file"},
		{"gtid", "string", "", false, "the GTID set"},
	}},
	{"lock", "a lock of the backup", []Key{
		{"lock", "string", "", true, "the statement"},
		{"waited_ms", "number", "", true, "how long hb waited for it, in milliseconds"},
		{"held_ms", "number", "", true, "how long hb held it, in milliseconds"},
	}},
	{"manifest", "the first line of hb-manifest.json", []Key{
		{"hb_manifest", "integer", "", true, "version of the manifest: 1, or 2 of an incremental backup"},
		{"files", "integer", "", true, "number of files in the archive without the manifest"},
		{"bytes", "integer", "", true, "their size"},
		{"heads_crc32", "string", "", true, "CRC-32 of the heads of all chunks"},
		{"from_lsn", "integer", "", true, "the checkpoint at which the redo log begins"},
		{"checkpoint_lsn", "integer", "", true, "the newest checkpoint when hb finished copying"},
		{"last_lsn", "integer", "", true, "the end of the redo log"},
		{"binlog", "position", "", false, "the position of the binary log"},
		{"binlog_home", "binlog_home", "", false, "where the server keeps its binary log, if that is outside its data directory"},
		{"start", "time", "", true, "when the backup began"},
		{"end", "time", "", true, "when it ended"},
		{"lock_ms", "lock_ms", "", true, "how long the backup kept others waiting"},
		{"server", "string", "", false, "identity of the server, which never changes"},
		{"since", "since", "", false, "what an incremental backup builds on"},
		{"stands_for", "string", "", false, "in an archive that hb merge made: id of the last increment in it"},
		{"undo_spaces", "integers", "", false, "ids of the undo tablespaces in the archive"},
		{"scope", "scope", "", false, "of a partial backup: what was asked for, and what it leaves out"},
		{"tracking", "tracking", "", false, "where the server's list of changed pages since this backup begins"},
		{"temporary_spaces", "integers", "", false, "ids of tablespaces that a server drops when it starts"},
		{"replay_from", "map", "", false, "by id of a tablespace: the LSN before which no redo belongs to it"},
		{"unsummed_pages", "integer", "", false, "number of pages without a checksum"},
		{"unproven_pages", "integer", "", false, "those of them that may be torn"},
		{"key_checks", "map", "", false, "MariaDB: by name of a key: the beginning of a hash that tells it from others"},
		{"encryption", "encryption", "", false, "what is encrypted at rest, and which keys a restore needs"},
		{"dropped_databases", "strings", "", false, "directories whose databases were dropped during the backup"},
		{"warnings", "strings", "", false, "warnings of the backup"},
	}},
	{"encryption", "what of a backup is encrypted at rest", []Key{
		{"tablespaces", "integer", "", true, "number of encrypted tablespaces when the backup ended"},
		{"names", "strings", "", false, "their first files, sorted; not more than 1,000"},
		{"others", "strings", "", false, "what else is encrypted, at least in part"},
		{"keys", "strings", "", false, "names of keys that a restore needs"},
		{"keys_in_backup", "boolean", "", false, "whether the archive has them itself, in hb-keys.age"},
	}},
	{"scope", "what a partial backup has", []Key{
		{"databases", "strings", "", false, "names of databases and tables to back up"},
		{"databases_exclude", "strings", "", false, "those to leave out"},
		{"tables", "strings", "", false, "regular expressions for tables to back up"},
		{"tables_exclude", "strings", "", false, "those for tables to leave out"},
		{"left_out", "array", "", true, "ranges of ids of tablespaces that the backup leaves out, each with its first and its last"},
	}},
	{"tracking", "where a server's list of changed pages begins", []Key{
		{"run", "string", "", true, "identifies the run of the server"},
		{"reset_lsn", "integer", "", true, "the LSN from which the server tracks changed pages for the next increment"},
	}},
	{"binlog_home", "where a server keeps its binary log", []Key{
		{"base", "string", "", true, "path of its files without their number"},
		{"index", "string", "", true, "path of its index"},
	}},
	{"lock_ms", "for how long others waited, in milliseconds", []Key{
		{"ddl", "integer", "", true, "DDL"},
		{"commit", "integer", "", true, "commits"},
	}},
	{"options", "how the archive was made", []Key{
		{"compressed", "boolean", "", true, "hb compressed it"},
		{"encrypted", "boolean", "", true, "hb encrypted it"},
		{"partial", "boolean", "", true, "it does not have all tables"},
		{"incremental", "boolean", "", false, "it has only what changed since another backup"},
	}},
	{"since", "what an incremental backup builds on", []Key{
		{"base", "string", "", true, "id of the base: SHA-256 of its hb-archive.json and hb-manifest.json"},
		{"from_lsn", "integer", "", true, "the base's from_lsn: the increment has all pages that are as new or newer"},
		{"checkpoint_lsn", "integer", "", true, "the base's checkpoint_lsn"},
		{"last_lsn", "integer", "", true, "the base's last_lsn"},
		{"live", "integer", "", true, "number of the server's files"},
		{"dropped", "integer", "", true, "number of files that the base has and the server had no more"},
		{"page_tracking", "boolean", "", false, "the server's list of changed pages was used"},
	}},
	{"list", "what hb list --json writes to standard output", []Key{
		{"hb_list", "integer", "", true, "version of the list: 1"},
		{"archive", "archive", "", false, "what the archive says of itself at its beginning, if hb made it"},
		{"manifest", "manifest", "", false, "what it says at its end, if it is complete"},
		{"complete", "boolean", "", true, "whether the archive has its manifest, and all that is in that"},
		{"indexed", "boolean", "", true, "whether hb read only index and manifest, so that the content is not proven"},
		{"databases", "array of database", "", true, "totals of the files below, by database"},
		{"files", "array of file", "", true, "files, sorted by path; those that match, if there is a pattern"},
	}},
	{"database", "totals of a database", []Key{
		{"name", "string", "", true, "its directory; empty for files in none"},
		{"files", "integer", "", true, "number of files"},
		{"bytes", "integer", "", true, "their size"},
	}},
	{"file", "a file of an archive", []Key{
		{"path", "string", "", false, "its path"},
		{"path_base64", "string", "", false, "instead: its path, if that is not UTF-8"},
		{"size", "integer", "", true, "its size"},
		{"chunks", "integer", "", true, "number of its chunks"},
		{"crc32", "string", "", false, "CRC-32 of its content, unless it has holes"},
	}},
	{"archive", "the file hb-archive.json", []Key{
		{"hb_archive", "integer", "", true, "version of the archive: 1, or 2 of an incremental backup"},
		{"hb_version", "string", "", true, "version of hb"},
		{"server_flavor", "string", "", true, "mariadb or mysql"},
		{"server_version", "string", "", true, "the server's version, as it states it"},
		{"page_size", "integer", "", true, "innodb_page_size"},
		{"start_lsn", "integer", "", true, "the checkpoint at which the redo log begins"},
		{"redo_format", "string", "", true, "name of the redo log's format"},
		{"created", "time", "", true, "when the backup began"},
		{"options", "options", "", true, "how the archive was made"},
	}},
	{"info", "the file of --info-file", []Key{
		{"hb_info", "integer", "", true, "version of the file: 1"},
		{"status", "string", "", true, "running, complete or failed"},
		{"hb_version", "string", "", true, "version of hb"},
		{"command", "string", "", true, "the command line without passwords"},
		{"pid", "integer", "", true, "id of hb's process"},
		{"start", "time", "", true, "when the backup began"},
		{"end", "time", "", false, "when it ended"},
		{"seconds", "number", "", false, "how long it took"},
		{"exit_code", "integer", "", false, "the exit code, once it has ended"},
		{"error", "string", "", false, "why it failed"},
		{"phase", "string", "", false, "what hb was doing when it failed"},
		{"server", "string", "", false, "family and version of the server, once hb has reached it"},
		{"options", "options", "", true, "how the archive is made"},
		{"bytes", "integer", "", true, "bytes that standard output took"},
		{"archive_bytes", "integer", "", true, "bytes of the archive before compression and encryption"},
		{"locks", "array of lock", "", false, "the locks that the backup took"},
		{"warnings", "strings", "", false, "warnings of the backup"},
		{"manifest", "manifest", "", false, "what the archive says of itself, if it is complete"},
	}},
}

// messageTopic is the text of hb help messages.
func messageTopic() string {
	var b strings.Builder
	b.WriteString(`Messages go to standard error. With --log-format json each message is one JSON object on a line of its own; hb check writes its report to standard output in the same form. Exactly one message, the last, has the event end, whether the command succeeds or fails; only a killed hb leaves none. Of the other events, --quiet leaves only warnings, findings that are not ok, and answers to SIGUSR1; of a command that succeeds it leaves out the end too.

`)
	fmt.Fprintf(&b, "Events, keys and values are a promise: a later hb may add some, and what is there keeps its name, type and meaning as long as schema is %d. Ignore what you do not know. Texts for people (msg, error) may change with any release. A time is RFC 3339; all sizes are bytes.\n\n", MessageSchema)
	b.WriteString("Every message has:\n\n" + keyRows(MessageKeys))
	for _, e := range Messages {
		fmt.Fprintf(&b, "\nEvent %s (%s): %s. It has:\n\n%s", e.Name, ofCommands(e.Of), e.When, keyRows(e.Keys))
	}
	for _, o := range Objects {
		fmt.Fprintf(&b, "\nObject %s: %s.\n\n%s", o.Name, o.What, keyRows(o.Keys))
	}
	return strings.ReplaceAll(b.String(), " It has:\n\n\n", "\n\n")
}

// ofCommands are commands in prose.
func ofCommands(names string) string {
	if names == "" {
		return "all commands"
	}
	return strings.ReplaceAll(names, " ", ", ")
}

// keyRows are keys as rows of a list.
func keyRows(keys []Key) string {
	var b strings.Builder
	for _, k := range keys {
		var notes []string
		if k.Of != "" {
			notes = append(notes, ofCommands(k.Of))
		}
		if !k.Always {
			notes = append(notes, "optional")
		}
		fmt.Fprintf(&b, "%s\t%s: %s", k.Name, k.Type, k.Meaning)
		if len(notes) > 0 {
			fmt.Fprintf(&b, " (%s)", strings.Join(notes, "; "))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// FindEvent returns the event of that name.
func FindEvent(name string) (Event, bool) {
	i := slices.IndexFunc(Messages, func(e Event) bool { return e.Name == name })
	if i < 0 {
		return Event{}, false
	}
	return Messages[i], true
}

// FindObject returns the object of that name.
func FindObject(name string) (Object, bool) {
	i := slices.IndexFunc(Objects, func(o Object) bool { return o.Name == name })
	if i < 0 {
		return Object{}, false
	}
	return Objects[i], true
}
