//go:build !linux

package datadir

import (
	"errors"
	"iter"
)

// What follows stands for what Linux alone has here: see CheckSystem.

type nameWatch struct{}

func watchNames(string) (*nameWatch, error) { return nil, errors.ErrUnsupported }

func (*nameWatch) close() error { return nil }

func (*nameWatch) changed() iter.Seq2[string, error] { return func(func(string, error) bool) {} }
