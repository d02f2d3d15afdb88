package mlog

import (
	"errors"
	"fmt"

	"hb/xbstream/innodb"
)

// ErrShort says that more bytes are needed to see the whole of a record.
var ErrShort = errors.New("the redo record goes on past the bytes at hand")

// RecordError says that a redo record is impossible.
type RecordError struct {
	Type Type
	What string
}

func (e *RecordError) Error() string { return fmt.Sprintf("redo record %v: %s", e.Type, e.What) }

// unknownRecord is the text of a RecordError for a type that hb does not know: a
// newer server may.
const unknownRecord = "hb knows no such record"

// Unwrap returns an *innodb.UnsupportedError if nothing need be wrong with the log.
func (e *RecordError) Unwrap() error {
	if e.What == unknownRecord {
		return &innodb.UnsupportedError{What: e.What}
	}
	return nil
}
