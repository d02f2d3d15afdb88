package keyring

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"time"
)

// Command is a program that prints keys: for Vault, key services and hardware. hb runs
// it with two further arguments, the number of the key and its version, both in decimal,
// and reads the key from its standard output in hexadecimal. No key is ever in its
// arguments or environment.
type Command struct {
	Argv    []string      // the program and its own arguments
	Timeout time.Duration // of one key; 0: 30 s
}

const (
	defaultTimeout = 30 * time.Second
	// maxOutput bounds what is read: a key of 32 bytes in hexadecimal, and white space.
	maxOutput = 1 << 10
)

// mariadb asks for a key. An error never has what the program printed to its standard
// output.
func (c *Command) mariadb(name MariaDBKey) (Secret, error) {
	timeout := cmp.Or(c.Timeout, defaultTimeout)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	args := append(append([]string{}, c.Argv[1:]...), strconv.FormatUint(uint64(name.ID), 10), strconv.FormatUint(uint64(name.Version), 10))
	cmd := exec.CommandContext(ctx, c.Argv[0], args...)
	cmd.WaitDelay = time.Second // for a child of its own that keeps the pipe
	var out, complaint limited
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("it did not end within %v", timeout)
		}
		if text := bytes.TrimSpace(complaint.b); len(text) > 0 {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return nil, &CommandError{c.Argv[0], name.String(), err}
	}
	key, err := parseHex(bytes.TrimSpace(out.b))
	if err == nil && len(key) != 16 && len(key) != 24 && len(key) != 32 {
		err = fmt.Errorf("it printed a key of %d bytes, not 16, 24 or 32", len(key))
	}
	if err != nil {
		return nil, &CommandError{c.Argv[0], name.String(), err}
	}
	return key, nil
}

// CommandError says that the program of --key-command did not give a key.
type CommandError struct {
	Program, Key string
	Err          error
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("%s, asked for %s: %v", e.Program, e.Key, e.Err)
}

// Unwrap returns what went wrong.
func (e *CommandError) Unwrap() error { return e.Err }

// limited keeps up to maxOutput bytes, and fails on more.
type limited struct{ b []byte }

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > maxOutput-len(l.b) {
		return 0, errors.Join(errors.New("it prints more than a key"), io.ErrShortWrite)
	}
	l.b = append(l.b, p...)
	return len(p), nil
}
