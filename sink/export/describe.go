package export

import (
	"fmt"
	"path"
	"strings"

	"hb/sink/backupdir"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/cfg"
	"hb/xbstream/innodb/sdi"
)

// Describe reads how a table of InnoDB is defined: Table.SDI or Table.Dict. A *RefusedError
// says that it, or one of another engine, cannot be exported.
func (d *Directory) Describe(t *Table) error {
	if t.Engine == Aria && !t.described {
		err := d.describeAria(t)
		t.described = err == nil
		return err
	}
	if t.described || t.Engine != InnoDB {
		return nil
	}
	if t.refusal != nil {
		return t.refusal
	}
	describe := d.describeDict
	if d.hasSDI() {
		describe = d.describeSDI
	}
	if err := describe(t); err != nil {
		return err
	}
	t.described = true
	return nil
}

// describeSDI looks for the table's document, which one of its tablespaces has.
func (d *Directory) describeSDI(t *Table) error {
	var found []described
	for _, part := range t.Parts {
		def, space, err := d.documents(part.Path)
		if err != nil {
			return err
		}
		if def != nil {
			found = append(found, described{part.Space, def, space})
		}
	}
	one, err := choose(found)
	if err != nil {
		return &RefusedError{t.String(), err.Error()}
	}
	t.SDI, t.space = one.def, one.doc
	switch {
	case t.SDI == nil:
		return &RefusedError{t.String(), "none of its files has its definition"}
	case !strings.EqualFold(t.SDI.Schema, t.Database) || !strings.EqualFold(t.SDI.Name, t.Name):
		return &RefusedError{t.String(), fmt.Sprintf("%s has the definition of table %s.%s: a statement that renames it was interrupted at the end of the backup; restore the whole backup, and its server completes or undoes that", t.Parts[0].Path, t.SDI.Schema, t.SDI.Name)}
	}
	return t.matchPartitions()
}

// described is a tablespace that has a document of a table.
type described struct {
	space innodb.SpaceID
	def   *sdi.Table
	doc   *sdi.Tablespace
}

// choose returns the document that servers read: that of the first partition, or of its first
// subpartition. Other partitions can have old ones, of tables that they were, or that servers
// before 8.0.16 left there. (fetch_first_tablespace_id of sdi_tablespace.cc, MySQL 9.7.2)
func choose(found []described) (one described, err error) {
	if len(found) == 1 {
		return found[0], nil
	}
	n := 0
	for _, f := range found {
		if first, ok := firstSpace(f.def); ok && first == uint64(f.space) {
			one = f
			n++
		}
	}
	if len(found) > 0 && n != 1 {
		return one, fmt.Errorf("%d of its files have a definition, and %d of these are of the partition that the definition begins with", len(found), n)
	}
	return one, nil
}

// firstSpace returns the tablespace of the first partition, if the definition names it.
func firstSpace(def *sdi.Table) (uint64, bool) {
	leaves := (&Table{SDI: def}).leaves()
	if len(leaves) == 0 || len(leaves[0].Indexes) == 0 {
		return 0, false
	}
	return leaves[0].Indexes[0].Private.Number("space_id")
}

// documents returns the definitions of a table and its tablespace that this has; nil: it has
// none of a table.
func (d *Directory) documents(file string) (def *sdi.Table, space *sdi.Tablespace, err error) {
	err = d.with(file, func(p *Pages) error {
		list, err := sdi.Read(p)
		if err != nil {
			return err
		}
		for i := range list {
			switch {
			case list[i].Type == sdi.TypeTablespace:
				space, err = list[i].Tablespace()
			case list[i].Type == sdi.TypeTable && def != nil:
				err = &backupdir.DamageError{File: file, Err: fmt.Errorf("it has the definitions of two tables")}
			case list[i].Type == sdi.TypeTable:
				def, err = list[i].Table()
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return def, space, err
}

// matchPartitions gives each part the name of its partition, by its tablespace.
func (t *Table) matchPartitions() error {
	all := t.leaves()
	if len(all) == 0 {
		if len(t.Parts) != 1 || t.Parts[0].Partition != "" {
			return &RefusedError{t.String(), fmt.Sprintf("it has %d files, the first is %s, and its definition has no partitions", len(t.Parts), t.Parts[0].Path)}
		}
		return nil
	}
	if len(all) != len(t.Parts) {
		return &RefusedError{t.String(), fmt.Sprintf("its definition has %d partitions, and %d files are here", len(all), len(t.Parts))}
	}
	for i := range t.Parts {
		part := t.partition(t.Parts[i].Space)
		if part == nil {
			return &RefusedError{t.String(), fmt.Sprintf("its definition has no partition in tablespace %d, which %s is", t.Parts[i].Space, t.Parts[i].Path)}
		}
		t.Parts[i].Partition = part.Name
	}
	return nil
}

// leaves are the partitions, or their subpartitions, that have tablespaces.
func (t *Table) leaves() (all []*sdi.Partition) {
	for i := range t.SDI.Partitions {
		p := &t.SDI.Partitions[i]
		if len(p.Subpartitions) == 0 {
			all = append(all, p)
		}
		for j := range p.Subpartitions {
			all = append(all, &p.Subpartitions[j])
		}
	}
	return all
}

// partition returns the partition that a tablespace is of; nil: none.
func (t *Table) partition(id innodb.SpaceID) *sdi.Partition {
	for _, p := range t.leaves() {
		if len(p.Indexes) > 0 {
			if v, ok := p.Indexes[0].Private.Number("space_id"); ok && v == uint64(id) {
				return p
			}
		}
	}
	return nil
}

// describeDict looks for the table, or all of its partitions, in InnoDB's dictionary.
func (d *Directory) describeDict(t *Table) error {
	t.Dict = nil
	for _, p := range t.Parts {
		def := d.dict.Table(p.Base())
		if def == nil || def.Space != p.Space {
			return &RefusedError{t.String(), fmt.Sprintf("InnoDB's dictionary does not have it in tablespace %d, which %s is: a statement that made, renamed or dropped it was interrupted at the end of the backup", p.Space, p.Path)}
		}
		t.Dict = append(t.Dict, def)
	}
	first := t.Parts[0].Base()
	dir, base := path.Split(first)
	at := partition.FindStringIndex(base)
	if at == nil {
		return nil
	}
	count := 0
	for _, def := range d.dict.Tables {
		if strings.HasPrefix(def.Name, dir+base[:at[1]]) {
			count++
		}
	}
	if count != len(t.Parts) {
		return &RefusedError{t.String(), fmt.Sprintf("InnoDB's dictionary has %d partitions, and %d files are here", count, len(t.Parts))}
	}
	return nil
}

// config makes the .cfg file of a tablespace that was opened.
func (d *Directory) config(t *Table, n int, pages *Pages) (*cfg.File, error) {
	part := &t.Parts[n]
	if !d.hasSDI() {
		return cfg.FromDict(t.Dict[n], pages, d.version)
	}
	page0, err := pages.Page(0)
	if err != nil {
		return nil, err
	}
	root, err := sdi.Root(pages.Space(), page0)
	if err != nil {
		return nil, err
	}
	return cfg.FromSDI(t.SDI, t.partition(part.Space), part.Base(), pages.Space(), root, d.version)
}
