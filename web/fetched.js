// Files of the page's own server.

/** The server's response; where there is none, the error's `told` says what to do. */
export async function fetched(url) {
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw told("The page's server does not answer: is this device connected, and the server running?");
  }
  if (!response.ok) throw told(`${url} is not there (${response.status}): build the page again with make web`);
  return response;
}

const told = (message) => Object.assign(new Error(message), { told: message });
