package replay

import (
	"errors"
	"fmt"

	"hb/xbstream/innodb"
)

// An Editor reads and changes pages of a tablespace that Recover has recovered. What it
// writes goes through the doublewrite file, as what Recover writes does: an interrupted run
// is completed by RestoreDoublewrite. It is a btree.Pages.
type Editor struct {
	w  *worker
	s  *openSpace
	dw *doublewrite
}

// Edit opens a tablespace, described as it is now. Of the options, Root, Identity, Checksum,
// Keys and EncryptTables count.
func Edit(t *Tablespace, o Options) (*Editor, error) {
	dw, err := openDoublewrite(o.Root, o.Identity)
	if err != nil {
		return nil, err
	}
	s, err := openTablespace(o.Root, t)
	if err != nil {
		return nil, errors.Join(err, dw.f.Close())
	}
	s.sum = o.Checksum
	r := &recovery{Options: o}
	w := &worker{r: r, slot: dw.slot(0)}
	w.buf, r.solo = w.slot.pages(), w
	e := &Editor{w, s, dw}
	if err := r.begin(s); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// Space describes the tablespace.
func (e *Editor) Space() *innodb.Space { return &e.s.Space }

// Page reads a page, verified and decrypted. The caller keeps it.
func (e *Editor) Page(no innodb.PageNo) ([]byte, error) {
	p, err := e.page(no, make([]byte, e.s.Space.Physical))
	return p.image, err
}

func (e *Editor) page(no innodb.PageNo, image []byte) (*pageState, error) {
	p := &e.w.page
	p.reset(e.s, no, image)
	if err := e.w.open(p); err != nil {
		return p, err
	}
	if p.bad != nil {
		return p, fmt.Errorf("%s: %w", e.s.Name(), p.bad)
	}
	return p, nil
}

// Change changes a page. It keeps its LSN: no redo is of the change.
func (e *Editor) Change(no innodb.PageNo, change func(page []byte)) error {
	p, err := e.page(no, e.w.buf[:e.s.Space.Physical])
	if err != nil {
		return err
	}
	change(p.image)
	p.s.Space.Stamp(p.image, p.sum)
	if err := e.w.encrypt(p); err != nil {
		return err
	}
	return e.w.write(e.s, []place{{no: no, sum: p.sum}})
}

// Close puts all that was written on disk.
func (e *Editor) Close() error { return errors.Join(e.s.release(), e.dw.f.Close()) }
