package contract

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// checksums is the file that lists what was published. `sha256sum` writes and reads it.
const checksums = "SHA256SUMS"

// CheckPublished returns how the files of a folder differ from those that were published, or nil. The folder's SHA256SUMS has the checksum of
// each file. A published file never changes and is never removed, because messages of its form are read for ever. A new file gets a new line.
func CheckPublished(folder fs.FS) error {
	list, err := fs.ReadFile(folder, checksums)
	if err != nil {
		return err
	}
	listed := map[string]string{}
	for line := range strings.Lines(string(list)) {
		sum, name, found := strings.Cut(strings.TrimSpace(line), "  ")
		if !found {
			return fmt.Errorf("%s has the line %q", checksums, line)
		}
		listed[path.Clean(name)] = sum
	}
	err = fs.WalkDir(folder, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || name == checksums {
			return err
		}
		content, err := fs.ReadFile(folder, name)
		if err != nil {
			return err
		}
		switch sum, found := listed[name]; {
		case !found:
			return fmt.Errorf("%s is new: add its line to %s", name, checksums)
		case sum != fmt.Sprintf("%x", sha256.Sum256(content)):
			return fmt.Errorf("%s was changed, but what was published never changes: restore it, and add a file for the new form", name)
		}
		delete(listed, name)
		return nil
	})
	if err != nil {
		return err
	}
	for name := range listed {
		return fmt.Errorf("%s was removed, but what was published is read for ever: restore it", name)
	}
	return nil
}
