// Files of the page's own server.

/** A file did not come; the message says what to do. */
export class ServerError extends Error {}

/** The server's response; ServerError where there is none. */
export async function fetched(url) {
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new ServerError("The page's server does not answer: is this device connected, and the server running?");
  }
  if (!response.ok) throw new ServerError(`${url} is not there (${response.status}): build the page again with make web`);
  return response;
}
