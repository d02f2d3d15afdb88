package usage

// pages are what is said of each command beyond the grammar, by its name.
var pages = map[string]Page{
	"backup": {
		Text: `The server goes on meanwhile: all pages are copied while they are written to, and the redo log is followed from before the first to after the last of them. How long anybody waits for locks meanwhile is what hb help locks says. The archive is complete if, and only if, the exit code is 0.

hb runs on the server's machine, as root or as the server's user.`,
		Reads:  "the server's files, and over its socket or port what it says of them; option files; the password from the terminal, where that is asked for.",
		Writes: "the archive to standard output, which must be no terminal; messages to standard error; --info-file. To the server nothing. In --tmpdir an unnamed file, where the archive does not take the redo log at once.",
		Examples: []Example{
			{`hb backup > backup.hb`, "into a file"},
			{`hb backup | ssh host "hb extract --apply -C dir"`, "to another machine, ready for a server to start on it"},
			{`hb backup --compress --encrypt-to-file keys.txt > backup.hb`, "small, and readable by who has a key alone"},
			{`hb backup -u backup -p --throttle 50MiB > backup.hb`, "as another user, at most so fast"},
			{`hb backup --print-defaults`, "which options are set, and by what"},
		},
		Topics: []string{"options", "locks", "stages", "archive", "exit-codes"},
	},
	"check": {
		Text:   `It looks at all that hb backup looks at before its first lock, and at more: how long the redo log lasts at the rate at which it grows now, which tables the last lock is for, whether a spool would fit. All checks are made, whatever one of them says. It takes the options of hb backup, locks nothing, and ends with the exit code that hb backup would, as far as that can be known before.`,
		Reads:  "the server's files, and over its socket or port what it says of them; option files; the password from the terminal, where that is asked for.",
		Writes: "its report to standard output; messages to standard error. To the server nothing.",
		Examples: []Example{
			{`hb check`, "before the night's backup"},
			{`hb check -u backup -p`, "which privileges an account lacks, as GRANT statements"},
		},
		Topics: []string{"options", "locks", "exit-codes"},
	},
	"extract": {
		Text: `What zstd or age did to the archive on its way is recognised and undone, whoever did it. The directory has the mark hb-incomplete until all of it is there, and no other command takes it before.

With --apply a server can start on the directory at the end. Where that is killed, or the disk is full, after the archive had arrived, hb apply goes on.`,
		Reads:  "the archive, from the file or standard input; keys and passphrases from files, or the terminal.",
		Writes: "the directory, which must be empty or not there yet; messages to standard error. To standard output nothing.",
		Examples: []Example{
			{`hb extract -C dir backup.hb`, "out of a file; then hb apply dir"},
			{`hb extract --apply -C dir < backup.hb`, "both in one pass"},
			{`hb extract -i key.txt -C dir backup.hb`, "an archive that is encrypted to a key"},
			{`ssh host "hb backup --compress" | hb extract -C dir`, "from another machine"},
		},
		Topics: []string{"restore", "stages", "options", "exit-codes"},
	},
	"apply": {
		Text:   `Before anything else all files are compared with the manifest. Killed at any point and run again, hb apply ends in the same bytes; a server that is started on the directory between refuses it. Directories of full backups that mariadb-backup made are taken too, and those in XtraBackup's form.`,
		Reads:  "the directory.",
		Writes: "the directory; messages to standard error. To standard output nothing.",
		Examples: []Example{
			{`hb apply dir`, "so that a server can start on it"},
			{`hb apply --memory 4GiB --parallel 16 dir`, "a long redo log, with more memory"},
			{`hb apply --by-server dir`, "leave the recovery to a server of that series"},
		},
		Topics: []string{"restore", "options", "exit-codes"},
	},
	"verify": {
		Text:   `It checks what extracting would, each page's checksum and identity, that the redo log runs unbroken from its checkpoint to the end, and that no tablespace is missing that it changes. A directory is verified too, whether hb apply has recovered it or not, and whichever tool made the backup.`,
		Reads:  "the archive, from the file or standard input, or the directory; keys and passphrases from files, or the terminal.",
		Writes: "messages to standard error. In --tmpdir unnamed files: the redo log of an archive, and what --replay changes.",
		Examples: []Example{
			{`hb verify backup.hb`, "everything that can be known of it, without writing it"},
			{`hb verify --replay backup.hb`, "and a rehearsal of hb apply"},
			{`hb verify dir`, "an extracted directory, or a recovered one"},
			{`hb backup | tee backup.hb | hb verify`, "while the backup is made"},
		},
		Topics: []string{"archive", "stages", "options", "exit-codes"},
	},
	"list": {
		Text:   `Each line has a file's size in bytes, the number of its chunks, and its path. A file that was renamed or removed while the backup was made has the word "renamed" or "removed" instead of a size.`,
		Reads:  "the archive, from the file or standard input; keys and passphrases from files, or the terminal.",
		Writes: "the list to standard output; messages to standard error.",
		Examples: []Example{
			{`hb list backup.hb`, "all files, and from what server they are"},
			{`hb list -i key.txt < backup.hb`, "of an archive that is encrypted to a key"},
		},
		Topics: []string{"archive", "stages", "options", "exit-codes"},
	},
	"help": {
		Reads:  "nothing.",
		Writes: "text to standard output.",
		Examples: []Example{
			{`hb help`, "the commands and the topics"},
			{`hb help backup`, "the same as hb backup --help"},
			{`hb help restore`, "a topic"},
		},
	},
	"completion": {
		Text: `What is completed: commands, options, the values of options where they are words, files and directories.

Bash and fish find the script themselves in these places, zsh in any directory of its fpath. For one session, in bash and zsh: source <(hb completion bash), in fish: hb completion fish | source.`,
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
			{`hb man > /usr/local/share/man/man1/hb.1`, "all that there is to say, as hb(1)"},
			{`hb man backup > /usr/local/share/man/man1/hb-backup.1`, "one command, as hb-backup(1)"},
			{`hb man | man -l -`, "to read at once"},
		},
	},
	"version": {
		Reads:  "nothing.",
		Writes: "text to standard output.",
		Examples: []Example{
			{`hb version`, "for a report of what went wrong"},
		},
	},
}
