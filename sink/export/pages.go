// Package export gets single tables out of a recovered directory.
package export

import (
	"fmt"
	"io"

	"hb/sink/replay/mysql"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

// A File is one of the files of a tablespace.
type File struct {
	io.ReaderAt
	Name string
	Size int64 // bytes
}

// Pages reads the pages of one tablespace. It is a btree.Pages.
type Pages struct {
	space innodb.Space
	files []File
}

// Open reads page 0 of a tablespace, of one file or, the system tablespace, several in
// their order. It does not close the files. The keys are needed if it is encrypted.
func Open(files []File, keys *keyring.Keys) (*Pages, error) {
	p := &Pages{files: files}
	head := make([]byte, innodb.MaxPageSize)
	n, err := files[0].ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("%s: %w", files[0].Name, err)
	}
	if p.space, err = innodb.ParseSpace(head[:n]); err != nil {
		return nil, fmt.Errorf("%s: %w", files[0].Name, err)
	}
	if n < p.space.Physical {
		return nil, fmt.Errorf("%s: it is cut short at %d bytes", files[0].Name, n)
	}
	if p.space.Cipher, err = tde.Open(&p.space, head[:p.space.Physical], keys); err != nil {
		return nil, fmt.Errorf("%s: %w", files[0].Name, err)
	}
	return p, nil
}

// Space describes the tablespace.
func (p *Pages) Space() *innodb.Space { return &p.space }

// Page reads and verifies a page, and undoes encryption and compression.
func (p *Pages) Page(no innodb.PageNo) ([]byte, error) {
	b, name, err := p.read(no)
	if err == nil {
		_, err = p.space.Unseal(b, no)
	}
	if err == nil {
		b, err = p.unpack(b)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: page %d: %w", name, no, err)
	}
	return b, nil
}

// read reads a page as it is stored, and returns the name of its file.
func (p *Pages) read(no innodb.PageNo) ([]byte, string, error) {
	at := int64(no) * int64(p.space.Physical)
	for _, f := range p.files {
		if at >= f.Size {
			at -= f.Size
			continue
		}
		b := make([]byte, p.space.Physical)
		if _, err := f.ReadAt(b, at); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, f.Name, err
		}
		return b, f.Name, nil
	}
	return nil, p.files[0].Name, fmt.Errorf("the tablespace ends before it: %w", io.ErrUnexpectedEOF)
}

// unpack undoes compression.
func (p *Pages) unpack(b []byte) ([]byte, error) {
	s := &p.space
	switch t := innodb.HeaderType(b); {
	case s.Compressed(b):
		plain := make([]byte, len(b))
		return plain, s.Decompress(plain, b)
	case s.Packed(b):
		plain := make([]byte, len(b))
		return plain, innodb.Unpack(plain, b)
	case s.Zip() && !innodb.AllZero(b) && (t == innodb.TypeIndex || t == innodb.TypeRTree || t == innodb.TypeSDI):
		return mysql.Frame(s, b)
	}
	return b, nil
}

// stamp gives a changed page, which is stored as it is, the checksum of the kind that it has.
func (p *Pages) stamp(no innodb.PageNo, page []byte) error {
	stored, name, err := p.read(no)
	if err != nil {
		return err
	}
	sum, err := p.space.Verify(stored, no)
	if err != nil {
		return fmt.Errorf("%s: page %d: %w", name, no, err)
	}
	p.space.Stamp(page, sum)
	return nil
}
