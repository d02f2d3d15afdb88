package settings

import (
	"fmt"
	"reflect"
	"strconv"
	"time"

	"github.com/alecthomas/kong"

	"hb/source/mysqld/login"
	"hb/stream"
	"hb/stream/remote"
)

// Type tags.
const (
	sizeType  = "size"  // a number of bytes that is a stream.Size on the command line
	countType = "count" // a number, 1 or more; without the option it is 0
	// archiveType is a path, or an address, which stays as it is.
	archiveType = "archive"
)

// maxWait bounds a time to wait: the longest timeout that servers take.
const maxWait = 365 * 24 * time.Hour

// Types teach kong the types that options have beside its own.
func Types() []kong.Option {
	return []kong.Option{
		kong.TypeMapper(reflect.TypeFor[time.Duration](), mapper(wait)),
		kong.TypeMapper(reflect.TypeFor[login.Secret](), mapper(func(s string) (login.Secret, error) {
			return login.NewSecret(s), nil
		})),
		kong.NamedMapper(sizeType, mapper(func(s string) (int64, error) {
			n, err := stream.ParseSize(s)
			return int64(n), err
		})),
		kong.NamedMapper(archiveType, kong.MapperFunc(archives)),
		kong.NamedMapper(countType, mapper(func(s string) (int, error) {
			n, err := strconv.Atoi(s)
			if err != nil || n < 1 {
				return 0, fmt.Errorf("%q is not a number of 1 or more", s)
			}
			return n, nil
		})),
	}
}

// archives decodes the name of an archive, or of all that follow.
func archives(ctx *kong.DecodeContext, target reflect.Value) error {
	expand := mapper(func(s string) (string, error) {
		if s != "-" && !remote.Is(s) {
			s = kong.ExpandPath(s)
		}
		return s, nil
	})
	if target.Kind() != reflect.Slice {
		return expand(ctx, target)
	}
	for ctx.Scan.Peek().IsValue() {
		name := reflect.New(target.Type().Elem()).Elem()
		if err := expand(ctx, name); err != nil {
			return err
		}
		target.Set(reflect.Append(target, name))
	}
	return nil
}

// mapper decodes an option's value by parse.
func mapper[T any](parse func(string) (T, error)) kong.MapperFunc {
	return func(ctx *kong.DecodeContext, target reflect.Value) error {
		var text string
		if err := ctx.Scan.PopValueInto("value", &text); err != nil {
			return err
		}
		v, err := parse(text)
		if err == nil {
			target.Set(reflect.ValueOf(v))
		}
		return err
	}
}

// wait reads a time to wait: a number of seconds, as the peers' options have it,
// or a Go duration, such as 2m30s.
func wait(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if seconds, e := strconv.ParseUint(text, 10, 32); e == nil {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || d < 0 || d > maxWait {
		return 0, fmt.Errorf("%q is not a time: give seconds, or a duration such as 2m30s", text)
	}
	return d, nil
}
