//go:build !linux

package datadir

import (
	"errors"
	"iter"
)

// These stand in for functions that exist only on Linux: see CheckSystem.

type nameWatch struct{}

func watchNames(string) (*nameWatch, error) { return nil, errors.ErrUnsupported }

func (*nameWatch) close() error { return nil }

func (*nameWatch) changed() iter.Seq2[string, error] { return func(func(string, error) bool) {} }
