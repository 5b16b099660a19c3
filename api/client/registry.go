package client

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"ehi-server/auth"
)

// admin sends an administrator's request, with a JSON body if there is one, and reads the
// response.
func (c *Client) admin(ctx context.Context, status int, method, path string, body, into any) error {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return err
		}
	}
	a, err := c.expect(ctx, status, method, "/admin/"+path, bytes.NewReader(data), "Content-Type",
		"application/json")
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal(a.Body, into)
}

// registeredClient is a client with its secret, which the server returns only once.
type registeredClient struct {
	auth.Client
	Secret string `json:"client_secret"`
}

// AddClient registers a client.
func (c *Client) AddClient(ctx context.Context, in auth.Client) (auth.Client, string, error) {
	var out registeredClient
	err := c.admin(ctx, http.StatusCreated, http.MethodPost, "clients", in, &out)
	return out.Client, out.Secret, err
}

// Clients lists the registered clients.
func (c *Client) Clients(ctx context.Context) (out []auth.Client, err error) {
	err = c.admin(ctx, http.StatusOK, http.MethodGet, "clients", nil, &out)
	return out, err
}

// Client reads a registered client.
func (c *Client) Client(ctx context.Context, id string) (out auth.Client, err error) {
	err = c.admin(ctx, http.StatusOK, http.MethodGet, "clients/"+url.PathEscape(id), nil, &out)
	return out, err
}

// RotateSecret gives a client a new secret.
func (c *Client) RotateSecret(ctx context.Context, id string) (string, error) {
	var out registeredClient
	err := c.admin(ctx, http.StatusOK, http.MethodPost, "clients/"+url.PathEscape(id)+"/rotate",
		nil, &out)
	return out.Secret, err
}

// RemoveClient removes a client.
func (c *Client) RemoveClient(ctx context.Context, id string) error {
	return c.admin(ctx, http.StatusOK, http.MethodDelete, "clients/"+url.PathEscape(id), nil, nil)
}

// AddAccount adds an account.
func (c *Client) AddAccount(
	ctx context.Context, a auth.Account, password string,
) (out auth.Account, err error) {
	in := struct {
		Name     string    `json:"username"`
		Patient  string    `json:"patient,omitempty"`
		Role     auth.Role `json:"role,omitempty"`
		Password string    `json:"password"`
	}{a.Name, a.Patient, a.Role, password}
	err = c.admin(ctx, http.StatusCreated, http.MethodPost, "accounts", in, &out)
	return out, err
}

// Accounts lists the accounts.
func (c *Client) Accounts(ctx context.Context) (out []auth.Account, err error) {
	err = c.admin(ctx, http.StatusOK, http.MethodGet, "accounts", nil, &out)
	return out, err
}

// SetPassword sets the password of an account; kind is patient or admin.
func (c *Client) SetPassword(ctx context.Context, kind, name, password string) error {
	return c.admin(ctx, http.StatusOK, http.MethodPut, "accounts/"+kind+"/"+url.PathEscape(name),
		map[string]string{"password": password}, nil)
}

// RemoveAccount removes an account; kind is patient or admin.
func (c *Client) RemoveAccount(ctx context.Context, kind, name string) error {
	return c.admin(ctx, http.StatusOK, http.MethodDelete, "accounts/"+kind+"/"+url.PathEscape(name),
		nil, nil)
}

// ResetSecondFactor removes an administrator's second factor. kind is admin, or config for the
// administrator in the configuration.
func (c *Client) ResetSecondFactor(ctx context.Context, kind, name string) error {
	path := "accounts/" + kind + "/" + url.PathEscape(name) + "/second-factor"
	return c.admin(ctx, http.StatusOK, http.MethodDelete, path, nil, nil)
}

// Keys lists the signing keys of tokens.
func (c *Client) Keys(ctx context.Context) (out []auth.KeyInfo, err error) {
	err = c.admin(ctx, http.StatusOK, http.MethodGet, "keys", nil, &out)
	return out, err
}

// RotateKeys generates new signing keys for tokens.
func (c *Client) RotateKeys(ctx context.Context, compromised bool) (out []auth.KeyInfo, err error) {
	path := "keys/rotate"
	if compromised {
		path += "?compromised=true"
	}
	err = c.admin(ctx, http.StatusOK, http.MethodPost, path, nil, &out)
	return out, err
}
