package source

import (
	"context"
	"errors"

	"hb/source/mysqld"
	"hb/source/mysqld/login"
	"hb/stream"
)

// Flags are the options of the command line that say what is backed up, and how.
type Flags struct {
	Connection login.Flags `embed:"" group:"Connection"`
	Options
	InfoFile string            `help:"Keep the status of the backup in this file, as JSON: running, complete or failed." placeholder:"FILE" type:"path"`
	Estimate bool              `help:"Estimate the size of the archive without taking a backup. Prints a number for aws s3 cp --expected-size."`
	Stages   stream.WriteFlags `embed:"" group:"Stages"`
}

// Prepare completes the Options, and returns what is done to the archive on its way
// out. The first mistake in the flags, or in what they name, is a *stream.UsageError.
// The server is left to Connect.
func (f *Flags) Prepare() (stream.WriteOptions, error) {
	stages, mistakes := f.prepare()
	if len(mistakes) > 0 {
		return stages, mistakes[0]
	}
	return stages, nil
}

// prepare is Prepare with all mistakes.
func (f *Flags) prepare() (stages stream.WriteOptions, mistakes []error) {
	var err error
	if f.Tmpdir, err = stream.TempDir(f.Tmpdir); err != nil {
		mistakes = append(mistakes, err)
	}
	if stages, err = f.Stages.Options(); err != nil {
		mistakes = append(mistakes, err)
	}
	f.Stored.Compressed, f.Stored.Encrypted = stages.Compress != nil, len(stages.Recipients) > 0
	return stages, mistakes
}

// Connect connects to the server that the flags name, or else env, and tells warn
// what is doubtful of the connection. An error is that of mysqld.Connect, a
// *mysqld.NoSocketError, or a *stream.UsageError.
func (f *Flags) Connect(ctx context.Context, env login.Env, warn func(text string)) (*mysqld.Server, error) {
	o, err := f.resolve(env)
	if err != nil {
		return nil, err
	}
	for _, text := range o.Doubts() {
		warn(text)
	}
	return mysqld.Connect(ctx, o)
}

// resolve says how to connect. Where nothing says where the server is, and it is
// not where servers are, it does not run: that is not a mistake.
func (f *Flags) resolve(env login.Env) (login.Options, error) {
	o, _, err := login.Resolve(f.Connection, env)
	if _, stopped := errors.AsType[*login.NoSocketError](err); !stopped {
		err = stream.AsUsage(err)
	}
	return o, err
}
