package usage

import (
	"fmt"
	"slices"
	"strings"
)

// An Exit is what an exit code means.
type Exit struct {
	Code    int
	Of      string // the commands that it is of, with spaces between; "": all
	Meaning string
}

// The commands that read archives or directories.
const (
	readers  = "extract verify list merge"
	checkers = "extract apply verify list merge"
	workers  = "backup check extract apply verify list merge"
	tellers  = "help completion man version"
)

// Exits are all exit codes. Which errors have them is package main's to say.
var Exits = []Exit{
	{0, "backup", "the archive is complete"},
	{0, "check", "no check found anything that would make a backup fail"},
	{0, "extract", "every byte of the manifest is on disk, or of the files that were chosen; with --apply, a server can start; with --table or --database, the tables are on disk as they were committed when the backup ended"},
	{0, "verify", "nothing is wrong"},
	{0, "apply", "a server can start"},
	{0, "list merge", "the archive is complete"},
	{0, tellers, "everything was written"},
	{1, "", "anything else, such as no space left or an I/O error"},
	{1, "backup", "a damaged page on the server; or the archive is complete, but --info-file could not be updated, or --manifest-out not written"},
	{1, "extract list", "no file matches the pattern"},
	{2, "", "the command line, or a file that it names, is wrong"},
	{2, "backup check", "an option names a database or a table that the server does not have, or a pattern that matches no table"},
	{2, "extract", "--table or --database names what the backup does not have, or what hb comes to know only after it has passed it in a pipe"},
	{2, "backup merge", "standard output is a terminal, or closed"},
	{2, readers, "standard input is a terminal"},
	{3, "backup check", "the server cannot be reached, privileges are missing, or the files belong to another server or cannot be read"},
	{3, "extract", "with --into: the server cannot be reached, or the files at its data directory are not certainly its own"},
	{4, workers, "not supported: server version, redo log format or record, encryption, storage engine, a log table that no lock can freeze, file names that collide or are too long, two files with one tablespace id, symbolic links to files, more non-transactional tables than max_allowed_packet lets one statement lock; an archive of a later hb; a backup on a system other than Linux; a file name that Windows does not allow"},
	{4, "extract", "a table that no server can import, such as one in a general tablespace, or of which the backup has no definition; hb names all of them, and the other tables are on disk"},
	{4, "apply", "with --export: a table has a tablespace that no server can import, such as one of MariaDB 10.5 with columns that were dropped instantly; hb names all of them, the other tables can be imported, and a server can start"},
	{5, "backup check", "the backup failed while it ran: connection or lock lost, lock not granted in time, another backup of the server not finished in time, redo log overrun, an index built without redo in the system tablespace, redo logging that may have been off for a while, a replica's temporary tables not closed in time, a table dropped that an option names, a tablespace changed while hb copied it for the last time"},
	{6, checkers, "the archive, or the directory extracted from it, is incomplete: truncated, without its manifest, or without something that recovery needs"},
	{6, "backup check", "the base of an incremental backup is incomplete"},
	{7, checkers, "the input is damaged or is not a backup: a bad page or redo log, or a file that does not match the manifest"},
	{7, "backup check", "the base of an incremental backup is damaged, or is not a backup"},
	{8, "extract apply verify", "the directory cannot be used: not empty, not a backup, not completely extracted or recovered, with files that the manifest lacks, or in use by a running server"},
	{8, "extract", "with --into: the server cannot take a table, because it has one of that name, is of another series, or keeps its files elsewhere"},
	{9, "backup check list merge " + tellers, "the reader of standard output exited"},
	{10, readers, "the archive is encrypted, and none of the given identities or passphrases decrypts it"},
	{10, "backup check", "the base of an incremental backup is an encrypted archive: give its manifest"},
	{10, "backup check extract apply verify", "the key of something that is encrypted at rest is missing or wrong"},
	{11, "backup check", "the base of an incremental backup does not fit: it is of another server, release series or page size, or of other tables, or of a server that was initialised again or restored since; it was made by a version of hb that made no bases; or it is a directory that was applied"},
	{11, "extract apply verify merge", "the archives are not a chain: one does not build on the one before it, or is missing, comes twice, or is of another server or of other tables; or the server was restored from another backup in between"},
	{12, "verify", "nothing is wrong as far as hb could look without keys: encrypted pages of MySQL, or an encrypted redo log, were not verified; or, with keys, pages of tablespaces that MySQL was just making"},
	{13, "extract apply", "a table has changes that were not committed, or, for apply --export, that are only in the change buffer, and --server was not given or did not finish them"},
	{130, workers, "interrupted by a signal"},
}

// exitsOf are the exit codes that a command can give, as rows of a list.
func exitsOf(command string) string {
	return rowsOf(slices.DeleteFunc(slices.Clone(Exits), func(e Exit) bool {
		return e.Of != "" && !slices.Contains(strings.Fields(e.Of), command)
	}), func(e Exit) string { return e.Meaning })
}

// allExits are all of them, as rows of a list. Where a code does not mean the same
// of all commands, it says which.
func allExits() string {
	return rowsOf(Exits, func(e Exit) string {
		another := func(o Exit) bool { return o.Code == e.Code && o != e }
		if e.Of == "" || !slices.ContainsFunc(Exits, another) {
			return e.Meaning
		}
		return strings.ReplaceAll(e.Of, " ", ", ") + ": " + e.Meaning
	})
}

// rowsOf are exit codes as rows of a list: one for each code.
func rowsOf(exits []Exit, text func(Exit) string) string {
	var b strings.Builder
	for _, code := range codesOf(exits) {
		var parts []string
		for _, e := range exits {
			if e.Code == code {
				parts = append(parts, text(e))
			}
		}
		fmt.Fprintf(&b, "%d\t%s\n", code, strings.Join(parts, "; "))
	}
	return b.String()
}

// Codes are all exit codes, in their order.
func Codes() []int { return codesOf(Exits) }

func codesOf(exits []Exit) (codes []int) {
	for _, e := range exits {
		codes = append(codes, e.Code)
	}
	return slices.Compact(codes)
}
