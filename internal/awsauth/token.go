package awsauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/towline/towline/internal/problem"
)

// maxToken is how many characters STS takes.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
const maxToken = 20000

// idToken is a token to assume a role with: of the file, if one is named.
func (o Options) idToken(ctx context.Context) (string, error) {
	if o.TokenFile == "" {
		return o.IDToken(ctx, o.Audience)
	}
	token, err := o.readTokenFile()
	if err != nil {
		if inner, ok := errors.AsType[*fs.PathError](err); ok {
			err = inner.Err
		}
		return "", &problem.Error{
			Op: "read ID token", Input: inputTokenFile, Value: o.TokenFile, Err: err,
			Fix: "Have an earlier step write the token into a file of the workspace or of the runner's temporary folder: no other is mounted into the action's container.",
		}
	}
	return token, nil
}

// readTokenFile reads the file anew each time, because others may renew it. A
// file of the workspace may be a link, as a repository can hold one, but not to
// outside of it.
func (o Options) readTokenFile() (string, error) {
	path := o.TokenFile
	if !filepath.IsAbs(path) {
		path = filepath.Join(o.Workspace, path)
	}
	file, err := open(o.Workspace, path)
	if err != nil {
		return "", err
	}
	content, err := io.ReadAll(io.LimitReader(file, maxToken+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(content))
	switch {
	case token == "":
		return "", errors.New("the file is empty")
	case len(content) > maxToken:
		return "", fmt.Errorf("the file has more than the %d bytes that a token may have", maxToken)
	}
	return token, nil
}

func open(workspace, path string) (*os.File, error) {
	if inside, err := filepath.Rel(workspace, path); workspace != "" && err == nil && filepath.IsLocal(inside) {
		return os.OpenInRoot(workspace, inside)
	}
	return os.Open(path) //nolint:gosec // the user names the file
}
