package usage

// pages are the texts on each command beyond the grammar, by its name.
var pages = map[string]Page{
	"backup": {
		Text: `The server keeps running: hb copies all pages while the server writes to them, and follows the redo log from before the first page to after the last. hb help locks explains which statements wait for how long. The archive is complete if and only if the exit code is 0.

With --since, hb backs up what changed since an earlier backup, the base: it reads all pages (or those that MySQL lists as changed, if it tracks them), and sends those that changed, and the files of other engines. The base may be a full backup or an incremental one. To restore, hb needs the full backup and all increments up to the one that you want: hb help merge. What hb has to know of the base is its manifest, a small file that --manifest-out writes and hb list --manifest extracts from an archive; give that where the archive is encrypted or elsewhere. hb refuses a base that is not of this server as it is now.

Run hb on the database server, as root or as the server's user.`,
		Reads:  "the server's files; the server's answers over its socket or port; the base of --since; option files; the password from the terminal, if you ask for that.",
		Writes: "the archive to standard output, which must not be a terminal; messages to standard error; the --info-file and the --manifest-out file. Uses an unnamed file in --tmpdir if the redo log arrives faster than the archive can be written, and for changed pages of --since. Writes nothing to the server, except that MySQL, if it tracks changed pages, begins its list of them again.",
		Examples: []Example{
			{`hb backup > backup.hb`, "into a file"},
			{`hb backup | ssh host "hb extract --apply -C dir"`, "to another machine, ready for a server to start on it"},
			{`hb backup --compress --encrypt-to-file keys.txt > backup.hb`, "compressed, and encrypted so that only key holders can read it"},
			{`hb backup -u backup -p --throttle 50MiB > backup.hb`, "as another user, with a limit on reading"},
			{`hb backup --manifest-out full.json > full.hb`, "a full backup for later increments"},
			{`hb backup --since full.json > monday.hb`, "what changed since; then hb merge full.hb monday.hb"},
			{`hb backup --print-defaults`, "show which options are set, and where"},
		},
		Topics: []string{"options", "locks", "stages", "archive", "exit-codes"},
	},
	"check": {
		Text:   `It makes every check that hb backup makes before its first lock, and more: how soon the redo log would wrap at the current write rate, which tables need the final lock, and whether --tmpdir has room. With --since it also checks that the base is of this server as it is now. It continues after a failed check. It takes the options of hb backup and locks nothing. Its exit code is the one that hb backup would give, as far as the checks can tell.`,
		Reads:  "the server's files; the server's answers over its socket or port; option files; the password from the terminal, if you ask for that.",
		Writes: "its report to standard output; messages to standard error. Writes nothing to the server.",
		Examples: []Example{
			{`hb check`, "before the nightly backup"},
			{`hb check -u backup -p`, "list missing privileges as GRANT statements"},
		},
		Topics: []string{"options", "locks", "exit-codes"},
	},
	"extract": {
		Text: `zstd compression and age encryption are detected and removed, whichever program applied them. Until everything is extracted, the file hb-incomplete marks the directory, and no other command accepts it.

With --apply, a server can start on the directory afterwards. If it is interrupted after the whole archive has arrived, run hb apply to continue.

With increments after the archive, hb extracts what hb merge would make of them: hb help merge.

With --files, only files that match a pattern are extracted, under their paths in the archive, which hb list prints. If the archive is a file that has an index, hb reads only its ends and the chosen files, and proves each file by the manifest's size and checksum. This also works through zstd and age, if hb wrote the zstd part. From a pipe, hb reads and checks the whole archive. A pattern that matches nothing is an error. The directory gets the file hb-partial: it is not a backup, and hb apply refuses it.

With --table or --database, hb extracts tables for a running server to import: for each tablespace its file, and a .cfg file that describes it; of other engines their files. It reads only these, the system and undo tablespaces and the redo log, and recovers them in the directory hb-scratch in DIR, which it removes. The tables have what was committed when the backup ended. hb rolls back transactions that were open then in their pages, where that is simple; otherwise it says what is pending, and --server lets a server of the same series end that on the copy. If changes of indexes are only in the change buffer, the server that imports the table builds its indexes again. A table has the name that it had at the end of the backup. Beside the files are the definitions (shop/orders.sql), and import.sql has the statements and copies that bring the tables back.

With --into, hb does that itself: it makes each table on a running server of this machine, imports it, has the server check it (CHECK TABLE EXTENDED) and counts its rows. If that fails, it removes what it made of the table. hb must be able to write into the server's data directory. It turns off the binary log for its statements: do the same on each replica.`,
		Reads:  "the archive, from the file, the https:// address or standard input; keys and passphrases from files, or the terminal.",
		Writes: "the directory, which must be empty or not exist; messages to standard error. Writes nothing to standard output.",
		Examples: []Example{
			{`hb extract -C dir backup.hb`, "from a file; then run hb apply dir"},
			{`hb extract --apply -C dir < backup.hb`, "extract and apply in one pass"},
			{`hb extract -i key.txt -C dir backup.hb`, "an archive that is encrypted to a key"},
			{`hb extract --files 'shop/orders.*' --files mysql -C dir backup.hb`, "the files of one table, and of the database mysql"},
			{`hb extract --table shop.orders -C dir backup.hb`, "one table, for a running server to import"},
			{`hb extract --table shop.orders --into -u root -C dir backup.hb`, "and into the running server of this machine"},
			{`ssh host "hb backup --compress" | hb extract -C dir`, "from another machine"},
		},
		Topics: []string{"restore", "stages", "options", "exit-codes"},
	},
	"apply": {
		Text: `It first compares all files with the manifest. If it is killed, run it again: it ends in the same bytes, and until then no server can start on the directory. It also accepts directories of full backups made by mariadb-backup, and those in XtraBackup's form.

With --export, it then writes what servers need to import single tables of the directory. Tables for which something is pending get none of these files; --server lets a server of just the version of the backup end that, in the directory itself, which hb verify cannot compare with the backup afterwards. XA transactions that were prepared stay prepared, and their tables get none of these files.

With --merge, it first puts an incremental backup of mariadb-backup or XtraBackup onto the directory, which must have been applied before, and then applies it: once for each increment, in their order. It refuses an increment that does not continue from the directory's LSN, or lacks something. If it is killed while it does this, restore the full backup again. Increments of hb's own are merged by hb extract and hb merge.`,
		Reads:  "the directory, and that of --merge.",
		Writes: "the directory; messages to standard error. Writes nothing to standard output.",
		Examples: []Example{
			{`hb apply dir`, "make the directory ready for a server"},
			{`hb apply --memory 4GiB --parallel 16 dir`, "a long redo log, with more memory"},
			{`hb apply --by-server dir`, "leave the recovery to a server of that series"},
			{`hb apply dir && hb apply --merge inc1 dir`, "a full backup and an increment of mariadb-backup or XtraBackup"},
		},
		Topics: []string{"restore", "options", "exit-codes"},
	},
	"verify": {
		Text:   `It makes the checks that hb extract makes, and also checks every page's checksum and identity, that the redo log is unbroken from its checkpoint to its end, and that every tablespace that the redo log changes is present. It verifies directories too, before or after hb apply, whichever tool made the backup. With increments after the archive, hb verifies what hb merge would make of them, and so proves the chain.`,
		Reads:  "the archive, from the file, the https:// address or standard input, or the directory; keys and passphrases from files, or the terminal.",
		Writes: "messages to standard error. Uses unnamed files in --tmpdir, for the redo log of an archive and for what --replay changes.",
		Examples: []Example{
			{`hb verify backup.hb`, "check everything that can be checked without restoring"},
			{`hb verify --replay backup.hb`, "also rehearse hb apply"},
			{`hb verify dir`, "check an extracted or a recovered directory"},
			{`hb backup | tee backup.hb | hb verify`, "verify a backup while it is made"},
		},
		Topics: []string{"archive", "stages", "options", "exit-codes"},
	},
	"list": {
		Text: `It lists the files that hb extract makes, sorted by path. Each line has a file's size in bytes, the number of its chunks, and its path. With --long, sizes have units, and totals by database follow. With --json the list is one JSON object, which has the facts of the archive too: hb help messages describes it.

If the archive is a file, hb reads only the index and the manifest at its end: they prove that nothing is missing; only hb verify proves the content. From a pipe, or if the archive has no index, hb reads the whole archive. If the archive turns out to be damaged or incomplete, hb still prints the list up to there. Only exit code 0 means that the archive is complete.

With --manifest, hb writes the archive's manifest instead, the bytes of hb-archive.json and hb-manifest.json: hb backup --since takes it in place of the archive.`,
		Reads:  "the archive, from the file, the https:// address or standard input; keys and passphrases from files, or the terminal.",
		Writes: "the list to standard output; messages to standard error.",
		Examples: []Example{
			{`hb list backup.hb`, "list all files, and the server they came from"},
			{`hb list --long backup.hb shop '*.frm'`, "the files of the database shop, and all files with that extension"},
			{`hb list --json backup.hb | jq .manifest.binlog`, "the binary log position"},
			{`hb list --manifest backup.hb > backup.json`, "the manifest, as the base of an incremental backup"},
			{`hb list -i key.txt < backup.hb`, "list an archive that is encrypted to a key"},
		},
		Topics: []string{"archive", "messages", "stages", "options", "exit-codes"},
	},
	"merge": {
		Text: `The result is a full backup as of the last increment, not yet applied: hb verify, hb extract and the peers' programs take it like any other, and the increments that come later build on it as on the last increment. Nothing is replayed: hb lays the increments' pages over those of the full backup while that passes, and takes the redo log of the last increment.

hb proves the chain before it writes a byte, if the full backup is a file: each increment names the id of the backup that it builds on. If the full backup comes from a pipe, its id is known only at its end; if it is wrong, the output has no manifest. hb reads the full backup from front to back, and proves it; of the increments it proves what it uses. It compares the pages of each tablespace with the sum that the last backup made of the server's pages: if the server was restored from another backup in between, the sums differ.

hb extract and hb verify take increments too, and do the same on the way.`,
		Reads:  "the archives, from files, https:// addresses, or one of them from standard input; keys and passphrases from files, or the terminal.",
		Writes: "the archive to standard output, which must not be a terminal; messages to standard error. Uses an unnamed file in --tmpdir for an increment that cannot be read anywhere, such as standard input.",
		Examples: []Example{
			{`hb merge full.hb monday.hb tuesday.hb > new.hb`, "a full backup as of tuesday"},
			{`hb merge -i key.txt --encrypt-to-file keys.txt full.hb inc.hb > new.hb`, "from and to encrypted archives"},
			{`hb verify --replay full.hb monday.hb tuesday.hb`, "rehearse a restore of the chain"},
			{`hb extract --apply -C dir full.hb monday.hb tuesday.hb`, "restore the chain"},
		},
		Topics: []string{"restore", "archive", "stages", "options", "exit-codes"},
	},
	"help": {
		Reads:  "nothing.",
		Writes: "text to standard output.",
		Examples: []Example{
			{`hb help`, "list commands and topics"},
			{`hb help backup`, "the same as hb backup --help"},
			{`hb help restore`, "a topic"},
		},
	},
	"completion": {
		Text: `The scripts complete commands, options, option values that are words, files and directories.

Bash and fish find the script at the places below; zsh finds it in any directory of its fpath. For the current session only, use source <(hb completion bash) in bash, source <(hb completion zsh) in zsh, and hb completion fish | source in fish.`,
		Reads:  "nothing.",
		Writes: "the script to standard output.",
		Examples: []Example{
			{`hb completion bash > /usr/share/bash-completion/completions/hb`, "for all users of bash"},
			{`hb completion zsh > /usr/local/share/zsh/site-functions/_hb`, "for all users of zsh"},
			{`hb completion fish > ~/.config/fish/completions/hb.fish`, "for one user of fish"},
		},
	},
	"man": {
		Reads:  "nothing.",
		Writes: "the page to standard output.",
		Examples: []Example{
			{`hb man > /usr/local/share/man/man1/hb.1`, "everything, as hb(1)"},
			{`hb man backup > /usr/local/share/man/man1/hb-backup.1`, "one command, as hb-backup(1)"},
			{`hb man | man -l -`, "read it now"},
		},
	},
	"version": {
		Reads:  "nothing.",
		Writes: "text to standard output.",
		Examples: []Example{
			{`hb version`, "for a bug report"},
		},
	},
}
