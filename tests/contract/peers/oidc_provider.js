// A strict authorisation server of somebody else: npm `oidc-provider`, with a SMART configuration.
// Usage: node oidc_provider.js NODE_MODULES, then one line of JSON on standard input:
//   {"jwks": …, "audience": …, "redirect_uri": …, "scope": …}
// "scope" names the scopes of data; without it, those of DATA_SCOPE.
// It prints one line, {"issuer": …}, and serves on loopback until standard input ends.
//
// The client's name says what it gets: es384-jwt, rs384-jwt, es384-opaque, rs384-opaque.
const { generateKeyPairSync } = require("node:crypto");
const { createServer } = require("node:http");
const { createInterface } = require("node:readline");
const { pathToFileURL } = require("node:url");

const SCOPES = ["openid", "offline_access", "fhirUser", "launch"];
const DATA_SCOPE = "system/ImagingStudy.rs user/ImagingStudy.rs";

function signingKey(kind, options, alg) {
  const { privateKey } = generateKeyPairSync(kind, options);
  return { ...privateKey.export({ format: "jwk" }), alg, use: "sig", kid: alg };
}

function clients(asked) {
  return ["es384-jwt", "rs384-jwt", "es384-opaque", "rs384-opaque"].map((name) => ({
    client_id: name,
    token_endpoint_auth_method: "private_key_jwt",
    token_endpoint_auth_signing_alg: name.slice(0, 5).toUpperCase(),
    id_token_signed_response_alg: name.startsWith("es") ? "ES384" : "RS256",
    grant_types: ["client_credentials", "authorization_code", "refresh_token"],
    redirect_uris: [asked.redirect_uri],
    jwks: asked.jwks,
  }));
}

function configuration(asked, issuer) {
  return {
    clients: clients(asked),
    jwks: {
      keys: [
        signingKey("ec", { namedCurve: "P-384" }, "ES384"),
        signingKey("rsa", { modulusLength: 2048 }, "RS256"),
      ],
    },
    scopes: SCOPES,
    claims: { openid: ["sub"], fhirUser: ["fhirUser"] },
    conformIdTokenClaims: false,
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({ sub: id, fhirUser: `${issuer}/fhir/Practitioner/77` }),
    }),
    enabledJWA: {
      clientAuthSigningAlgValues: ["ES384", "RS384"],
      idTokenSigningAlgValues: ["ES384", "RS256"],
    },
    issueRefreshToken: () => true,
    rotateRefreshToken: true,
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    cookies: { keys: ["not a secret"] },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => asked.audience,
        useGrantedResource: () => true,
        getResourceServerInfo: (_, indicator, client) => ({
          scope: asked.scope ?? DATA_SCOPE,
          audience: indicator,
          accessTokenTTL: 300,
          accessTokenFormat: client.clientId.endsWith("jwt") ? "jwt" : "opaque",
          jwt: { sign: { alg: "ES384" } },
        }),
      },
    },
  };
}

function smartConfiguration(issuer) {
  return {
    issuer,
    authorization_endpoint: `${issuer}/auth`,
    token_endpoint: `${issuer}/token`,
    code_challenge_methods_supported: ["S256"],
    authorization_response_iss_parameter_supported: true,
  };
}

// Log in and consent, as a person would.
async function interact(provider, asked, request, response) {
  const { prompt, params, session } = await provider.interactionDetails(request, response);
  let result = { login: { accountId: "dr-who" } };
  if (prompt.name === "consent") {
    const grant = new provider.Grant({
      accountId: session.accountId,
      clientId: params.client_id,
    });
    grant.addOIDCScope(params.scope);
    grant.addResourceScope(asked.audience, params.scope);
    result = { consent: { grantId: await grant.save() } };
  }
  await provider.interactionFinished(request, response, result);
}

async function serve(asked, modules) {
  const entry = pathToFileURL(`${modules}/oidc-provider/lib/index.js`);
  const { Provider } = await import(entry);
  const server = createServer();
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, configuration(asked, issuer));
  provider.on("server_error", (_, error) => console.error(error));
  provider.on("grant.error", (_, error) => console.error(error.error_detail ?? error.message));
  const handle = provider.callback();
  server.on("request", (request, response) => {
    if (request.url === "/fhir/.well-known/smart-configuration") {
      response.setHeader("Content-Type", "application/json");
      response.end(JSON.stringify(smartConfiguration(issuer)));
    } else if (request.url.startsWith("/interaction/")) {
      interact(provider, asked, request, response).catch((error) => {
        console.error(error);
        response.writeHead(500).end();
      });
    } else {
      handle(request, response);
    }
  });
  console.log(JSON.stringify({ issuer }));
}

const lines = createInterface({ input: process.stdin });
lines.once("line", (line) => serve(JSON.parse(line), process.argv[2]));
lines.on("close", () => process.exit(0));
