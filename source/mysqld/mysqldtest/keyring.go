package mysqldtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// keyringComponent is MySQL's component that keeps keys in a file.
const keyringComponent = "component_keyring_file"

// keyringServer makes, in the server's directory, what MySQL needs to start with
// component_keyring_file: a name of its program of its own, because the manifest that
// names the component lies beside the program, and a directory of plugins of its own,
// because the component's configuration lies there. It returns the command that starts
// the server.
func (s *Server) keyringServer(o *Options, args ...string) (*exec.Cmd, error) {
	dir, plugins := s.keyringDir()
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(plugins, 0o755)); err != nil {
		return nil, fmt.Errorf("make a directory for the keyring component: %w", err)
	}
	have, err := filepath.Glob(filepath.Join(s.Root.plugins, "*.so"))
	if err != nil {
		return nil, err
	}
	for _, p := range have {
		if err := os.Symlink(p, filepath.Join(plugins, filepath.Base(p))); err != nil {
			return nil, err
		}
	}
	start, err := os.ReadFile(filepath.Join(s.Root.Dir, "run", "mysqld"))
	if err != nil {
		return nil, err
	}
	const program = `"$r/usr/sbin/mysqld"`
	if strings.Count(string(start), program) != 1 {
		return nil, fmt.Errorf("the script that starts %s does not name %s once", s.Root.Name, program)
	}
	own := filepath.Join(dir, "mysqld")
	for name, content := range map[string]string{
		filepath.Join(dir, "run"):                       strings.Replace(string(start), program, "'"+own+"'", 1),
		filepath.Join(dir, "mysqld.my"):                 `{"components": "file://` + keyringComponent + `"}`,
		filepath.Join(plugins, keyringComponent+".cnf"): fmt.Sprintf(`{"path": %q, "read_only": false}`, o.Keyring),
	} {
		if err := os.WriteFile(name, []byte(content), 0o700); err != nil {
			return nil, err
		}
	}
	return exec.Command(filepath.Join(dir, "run"), args...), os.Symlink(filepath.Join(s.Root.Dir, "usr", "sbin", "mysqld"), own)
}

// HasKeyring reports whether the server can keep keys in a file ([Options].Keyring).
func (r *Root) HasKeyring() bool { return !r.MariaDB() && r.HasPlugin(keyringComponent) }

// keyringDir returns the directory of what keyringServer makes, and that of the plugins
// in it.
func (s *Server) keyringDir() (dir, plugins string) {
	dir = filepath.Join(s.Dir, "with-keyring")
	return dir, filepath.Join(dir, "plugin")
}

// keyringLines returns the lines for [mysqld] of a server with a keyring.
func (s *Server) keyringLines(o *Options) []string {
	if o.Keyring == "" {
		return nil
	}
	_, plugins := s.keyringDir()
	return []string{"plugin-dir=" + plugins}
}
