package rehearse

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/towline/towline/internal/emulator"
	"github.com/towline/towline/internal/inputs"
)

// addImage puts an empty image where the input image says that one is, if that
// is ECR. One that is named by its digest cannot be made, and need not be: it is
// not looked for.
func (in *stepInputs) addImage(cloud *emulator.Cloud, region string) error {
	image := in.get("image")
	host, _, _ := strings.Cut(image, "/")
	if inputs.ECRRegion(host) == "" || strings.Contains(image, "@") {
		return nil
	}
	tag, err := name.NewTag(image)
	if err != nil {
		return nil //nolint:nilerr // the step says what is wrong with the input
	}
	const key, secret = "AKIAREHEARSALSTAGE00", "stage"
	cloud.AddUser(key, secret)
	client := ecr.New(ecr.Options{
		Region: region, Credentials: credentials.NewStaticCredentialsProvider(key, secret, ""),
		HTTPClient: &http.Client{Transport: cloud.RoundTripper()},
	})
	login, err := client.GetAuthorizationToken(noContext(), &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		return fmt.Errorf("image %s: %w", image, err)
	}
	made, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH})
	if err != nil {
		return fmt.Errorf("image %s: %w", image, err)
	}
	auth := authn.FromConfig(authn.AuthConfig{Auth: *login.AuthorizationData[0].AuthorizationToken})
	if err := remote.Write(tag, made, remote.WithTransport(cloud.RoundTripper()), remote.WithAuth(auth)); err != nil {
		return fmt.Errorf("image %s: %w", image, err)
	}
	return nil
}
