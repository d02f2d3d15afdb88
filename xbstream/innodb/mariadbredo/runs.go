package mariadbredo

import "hb/xbstream/innodb"

// Run is a longest sequence of consecutive records of one page within one
// mini-transaction: one record with ids, and the same-page records after it.
// It is stored, sorted and applied as a unit.
type Run struct {
	Page innodb.PageID
	// Offset is where it begins in the mini-transaction.
	Offset int
	Bytes  []byte
	// Kind is the type of the first record. INIT_PAGE and FREE_PAGE occur
	// nowhere else: they make all earlier records of the page meaningless.
	Kind Type
	Trim bool // EXTENDED TRIM_PAGES, which is a run of its own
}

// RunReader iterates over the runs and file records of a mini-transaction.
type RunReader struct {
	r     Reader
	run   Run
	ahead bool // r stands on a record that is not part of run
}

// ReadRuns returns an iterator over the runs of one mini-transaction.
func ReadRuns(b []byte) RunReader { return RunReader{r: ReadRecords(b)} }

// Err returns what ended the iteration early: a *RecordError, or nil.
func (rr *RunReader) Err() error { return rr.r.err }

// Run returns the current run.
func (rr *RunReader) Run() *Run { return &rr.run }

// Next moves to the next run of page records, or to the next record about a
// file: then Run().Kind.IsFile() and FileOp() decodes it.
func (rr *RunReader) Next() bool {
	r := &rr.r
	if !rr.ahead && !r.Next() {
		return false
	}
	rr.ahead = false
	rr.run = Run{Page: r.Page, Offset: r.Offset, Kind: r.Type, Trim: r.IsTrim()}
	if r.Type.IsFile() {
		rr.run.Bytes = r.b[r.Offset:r.next]
		return true
	}
	for r.Next() {
		if !r.SamePage {
			rr.ahead = true
			break
		}
		if rr.run.Trim || rr.run.Kind == FreePage {
			return r.fail("record of a page that was freed")
		}
	}
	if r.err != nil {
		return false
	}
	end := r.next
	if rr.ahead {
		end = r.Offset
	}
	rr.run.Bytes = r.b[rr.run.Offset:end:end]
	return true
}

// FileOp decodes the current record about a file.
func (rr *RunReader) FileOp() (FileOp, error) { return rr.r.FileOp() }

// Modifies reports whether the current record is FILE_MODIFY of a file with that name,
// without memory for the name: a log repeats it after each checkpoint.
func (rr *RunReader) Modifies(name string) bool {
	return rr.r.Type == FileModify && string(rr.r.Body) == name
}
