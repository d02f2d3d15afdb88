package since

import (
	"fmt"

	"hb/source/mysqld"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// ServerError says that a base is of another server, or of this one before it was
// initialised again.
type ServerError struct{ Base, Theirs, Ours string }

func (e *ServerError) Error() string {
	return fmt.Sprintf("the base %s is of the server %s, and this one is %s: another server, or one that was initialised again or restored since; take a full backup", e.Base, e.Theirs, e.Ours)
}

// ReleaseError says that a base is of a server of another family, or release series.
type ReleaseError struct{ Base, Theirs, Ours string }

func (e *ReleaseError) Error() string {
	return fmt.Sprintf("the base %s is of %s, and this server is %s: take a full backup", e.Base, e.Theirs, e.Ours)
}

// PageSizeError says that a base has pages of another size.
type PageSizeError struct {
	Base         string
	Theirs, Ours int // innodb_page_size, bytes
}

func (e *PageSizeError) Error() string {
	return fmt.Sprintf("the base %s has pages of %d bytes, and this server of %d: it was initialised again; take a full backup", e.Base, e.Theirs, e.Ours)
}

// AheadError says that a server has not reached the LSN that a base ends at.
type AheadError struct {
	Base         string
	Theirs, Ours innodb.LSN
}

func (e *AheadError) Error() string {
	return fmt.Sprintf("the base %s ends at LSN %d, and this server is at %d: it was restored from an earlier backup, or initialised again; take a full backup", e.Base, e.Theirs, e.Ours)
}

// UnusableError says that no incremental backup can build on a backup.
type UnusableError struct{ Base, What string }

func (e *UnusableError) Error() string {
	return fmt.Sprintf("the base %s %s; take a full backup", e.Base, e.What)
}

// ScopeError says that a base is of other tables than those that were asked for.
type ScopeError struct {
	Base         string
	Theirs, Ours *metadata.Scope
}

func (e *ScopeError) Error() string {
	return fmt.Sprintf("the base %s is a backup of %v, and this one would be of %v: give the same options, or take a full backup", e.Base, e.Theirs, e.Ours)
}

// Server is what a base is compared with.
type Server struct {
	Flavor   string // as hb-archive.json has it
	Version  mysqld.Version
	Identity string
	PageSize int
	// LSN is one that it has reached, and Checkpoint its newest.
	LSN, Checkpoint innodb.LSN
	// Scope is what was asked for; nil: all tables.
	Scope *metadata.Scope
}

// Check reports why hb cannot build on the base for a server.
func (b *Base) Check(s Server) error {
	_, theirs, err := mysqld.ParseVersion(b.Archive.ServerVersion)
	m := b.Manifest
	switch {
	case m.Server == "":
		return &UnusableError{b.Name, "was made by a version of hb that did not record of which server it is"}
	case b.Archive.ServerFlavor != s.Flavor || err != nil || theirs.Series() != s.Version.Series():
		return &ReleaseError{b.Name, b.Archive.Server(), s.Flavor + " " + s.Version.Full}
	case m.Server != s.Identity:
		return &ServerError{b.Name, m.Server, s.Identity}
	case b.Archive.PageSize != s.PageSize:
		return &PageSizeError{b.Name, b.Archive.PageSize, s.PageSize}
	case m.LastLSN > s.LSN:
		return &AheadError{b.Name, m.LastLSN, s.LSN}
	case m.CheckpointLSN > s.Checkpoint:
		return &AheadError{b.Name, m.CheckpointLSN, s.Checkpoint}
	case !m.Scope.Same(s.Scope):
		return &ScopeError{b.Name, m.Scope, s.Scope}
	}
	return nil
}
