// An OpenID provider of npm (oidc-provider), for TestAdministratorsSignInByARealProvider: it lets in
// whoever of PEOPLE says his name, with that name's claims. It prints its issuer, and ends with its input.
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const people = JSON.parse(process.env.PEOPLE);
const server = createServer();
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  clients: [{
    client_id: 'ehi',
    client_secret: process.env.SECRET,
    redirect_uris: JSON.parse(process.env.REDIRECTS),
    response_types: ['code'],
    grant_types: ['authorization_code'],
  }],
  claims: { openid: ['sub', 'roles', 'preferred_username'] },
  conformIdTokenClaims: false,
  cookies: { keys: ['of a test'] },
  pkce: { required: () => true },
  findAccount: (_, id) => people[id] && { accountId: id, claims: async () => ({ sub: id, ...people[id] }) },
});
server.on('request', provider.callback());
console.log(issuer);
process.stdin.resume().on('end', () => process.exit(0));
