package awsauth

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"

	"github.com/towline/towline/internal/problem"
)

// checkKnownAccount refuses roles of an account that is not allowed, where
// their ARNs show it before anybody is asked.
func (o Options) checkKnownAccount() error {
	if o.UseExisting { // the roles may not be needed
		return nil
	}
	for _, role := range slices.Backward(o.Roles) {
		// A name is a role of the account of the one before.
		if parsed, err := arn.Parse(role); err == nil {
			return o.checkAccount(parsed.AccountID, "role "+role+" is in account "+parsed.AccountID)
		}
	}
	return nil
}

// checkAccount refuses to act in an account that is not allowed.
func (o Options) checkAccount(account, what string) error {
	if len(o.AllowedAccounts) == 0 || slices.Contains(o.AllowedAccounts, account) {
		return nil
	}
	return &problem.Error{
		Op: "check AWS account", Input: "allowed-account-ids", Value: strings.Join(o.AllowedAccounts, ","),
		Err: fmt.Errorf("%s, which is not among them", what),
		Fix: "Use the role or keys of an allowed account, or add " + account + " if it is meant. Nothing was done in it.",
	}
}
