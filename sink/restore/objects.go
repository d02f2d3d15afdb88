package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"hb/xbstream/metadata"
)

// Unrecorded says what the backup does not have of what belongs to tables that are brought back,
// and to Databases: nobody else says it.
func (o Objects) Unrecorded(tables []Name) (list []string) {
	if o.Definitions == nil {
		if len(tables) > 0 || len(o.Databases) > 0 {
			list = append(list, "the backup has no definitions of triggers, views, routines and events: if the tables had triggers, make them again")
		}
		return list
	}
	for _, lack := range o.Definitions.Head.Lacking {
		list = append(list, fmt.Sprintf("the account that made the backup lacked %s: objects whose definitions need it are not in the backup", lack))
	}
	missing := func(all []*metadata.Definition) {
		for _, d := range all {
			if d.Missing != "" {
				list = append(list, fmt.Sprintf("the backup does not have %s %s.%s: %s", d.Kind, d.Database, d.Name, d.Missing))
			}
		}
	}
	for _, database := range o.Databases {
		missing(o.Definitions.Of(database, kinds...))
		for _, d := range o.Definitions.Of(database, metadata.DefinesSequence) {
			if d.Missing != "" || o.setSequence(d) != "" {
				continue
			}
			list = append(list, fmt.Sprintf("sequence %s.%s begins with its first value again: set the next one (SETVAL)", d.Database, d.Name))
		}
	}
	for _, t := range tables {
		if !slices.Contains(o.Databases, t.Database) {
			missing(o.Definitions.Triggers(t.Database, t.Table))
		}
	}
	return list
}

// makeSequences makes those of databases that are brought back as a whole: before the tables,
// whose columns may have values of them by default.
func makeSequences(ctx context.Context, s Session, o Objects) (warnings []string) {
	m := &maker{Objects: o, run: func(q string) error { return s.Exec(ctx, q) }}
	if o.Definitions == nil {
		return nil
	}
	for _, database := range o.Databases {
		if list := o.Definitions.Of(database, metadata.DefinesSequence); len(list) > 0 {
			m.database(database)
			m.all(list)
		}
	}
	return m.warnings
}

// makeObjects makes, after the tables, what a script makes besides them: the triggers of tables
// that are back under their own names, and the routines, views and events of databases
// that are brought back as a whole. It returns what was not made, and why: the tables are there
// in any case. An object of that name that the server has is left alone. Triggers only come to
// tables that hb brought back. For what the backup does not have, see Unrecorded.
func makeObjects(ctx context.Context, s Session, tables []*Table, o Objects) (warnings []string) {
	m := &maker{Objects: o, run: func(q string) error { return s.Exec(ctx, q) }}
	if o.Definitions == nil {
		return nil
	}
	for _, database := range o.Databases {
		m.database(database)
		for _, kind := range kinds[1:slices.Index(kinds, metadata.DefinesView)] {
			m.all(o.Definitions.Of(database, kind))
		}
	}
	m.views()
	m.triggers(tables)
	for _, database := range o.Databases { // which act from then on
		m.all(o.Definitions.Of(database, metadata.DefinesEvent))
	}
	return m.warnings
}

// maker makes objects in a session.
type maker struct {
	Objects
	run      func(statement string) error
	warnings []string
	ended    bool // the connection is lost, or hb was told to stop
}

func (m *maker) warn(format string, args ...any) {
	m.warnings = append(m.warnings, fmt.Sprintf(format, args...))
}

func (m *maker) failed(d *metadata.Definition, err error) {
	m.warn("%s %s.%s was not made: %v", d.Kind, d.Database, d.Name, err)
}

// exec runs statements, unless it is known that nothing can be run any more.
func (m *maker) exec(statements ...string) error {
	if m.ended {
		return errEnded
	}
	for _, q := range statements {
		if err := m.run(q); err != nil {
			connection, is := errors.AsType[wholeError](err)
			m.ended = errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || is && connection.Whole()
			return err
		}
	}
	return nil
}

// wholeError is an error of a session that may be one of the connection.
type wholeError interface {
	error
	Whole() bool
}

var errEnded = errors.New("the connection ended before")

// database makes one that no table of it made.
func (m *maker) database(name string) {
	if err := m.exec(createDatabase(name, name, m.Definitions)); err != nil {
		m.warn("database %s was not made: %v", name, err)
	}
}

// make makes one object that the backup has, in a session like that of its maker.
func (m *maker) make(d *metadata.Definition) error {
	if d.Missing != "" {
		return nil
	}
	statements := []string{"USE " + quote(d.Database), definitionSettings(d), d.Text()}
	if q := m.setSequence(d); q != "" {
		statements = append(statements, q)
	}
	return m.exec(statements...)
}

func (m *maker) all(list []*metadata.Definition) {
	for _, d := range list {
		if err := m.make(d); err != nil {
			m.failed(d, err)
		}
	}
}

// views makes those of all databases: each may be of others, so that one that fails comes again
// once others have been made.
func (m *maker) views() {
	var left []*metadata.Definition
	for _, database := range m.Databases {
		left = append(left, m.Definitions.Of(database, metadata.DefinesView)...)
	}
	for len(left) > 0 {
		var again []*metadata.Definition
		var reasons []error
		for _, d := range left {
			if err := m.make(d); err != nil {
				again, reasons = append(again, d), append(reasons, err)
			}
		}
		if len(again) == len(left) || m.ended {
			for i, d := range again {
				m.failed(d, reasons[i])
			}
			return
		}
		left = again
	}
}

// triggers makes those of tables, and says which were not made because their tables are not
// there, or are called otherwise.
func (m *maker) triggers(tables []*Table) {
	back := map[Name]bool{}
	for _, t := range tables {
		list := m.Definitions.Triggers(t.Was.Database, t.Was.Table)
		if t.Name == t.Was {
			back[t.Was] = true
			m.all(list)
			continue
		}
		for _, d := range list {
			if d.Missing != "" {
				continue
			}
			m.failed(d, fmt.Errorf("it is of table %v, which is now %v", t.Was, t.Name))
		}
	}
	for _, database := range m.Databases {
		for _, d := range m.Definitions.Of(database, metadata.DefinesTrigger) {
			if d.Missing == "" && !back[Name{d.Database, d.Table}] {
				m.failed(d, fmt.Errorf("its table %s was not brought back", d.Table))
			}
		}
	}
}
