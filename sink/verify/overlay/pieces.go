package overlay

import "io"

// Pieces is content that lies in pieces, in another file; everything between them
// is zero.
type Pieces struct {
	From   io.ReaderAt
	pieces []extent
}

// Add says that n bytes at off are in the other file at at. Pieces come in
// order.
func (p *Pieces) Add(off, n, at int64) {
	if last := len(p.pieces) - 1; last >= 0 && p.pieces[last].end() == off && p.pieces[last].at+p.pieces[last].n == at {
		p.pieces[last].n += n
		return
	}
	p.pieces = append(p.pieces, extent{off, n, at})
}

// ReadAt fills b. It knows no end: the file's size is that of Dir.Add.
func (p *Pieces) ReadAt(b []byte, off int64) (int, error) {
	for n := 0; n < len(b); {
		size, at := span(p.pieces, off+int64(n), int64(len(b)-n))
		part := b[n : n+int(size)]
		if at < 0 {
			clear(part)
		} else if _, err := p.From.ReadAt(part, at); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return n, err
		}
		n += int(size)
	}
	return len(b), nil
}

// Close has nothing to do: the other file is not closed with it.
func (p *Pieces) Close() error { return nil }
