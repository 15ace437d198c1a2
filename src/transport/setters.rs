//! The HTTP settings that each builder of a source has.

/// The setters, and the resulting settings. The builder has a field of each name.
macro_rules! http_setters {
    ($builder:ident) => {
        impl $builder {
            /// Allows a URL with `http`, in clear. Default: allowed only for this machine itself. A cloud's
            /// metadata server needs this setting.
            pub fn allow_http(mut self) -> Self {
                self.allow_http = true;
                self
            }

            /// A proxy for https: `http://`, `https://` or `socks5://` with host and port. Requests in clear, and
            /// requests to this machine or its own network (loopback, link-local), do not use it. Default: the
            /// proxy in the environment (`HTTPS_PROXY`, `NO_PROXY`).
            pub fn proxy(mut self, url: impl Into<String>) -> Self {
                self.proxy = Some($crate::secret::Secret::new(url));
                self
            }

            /// Changes the HTTP client: a root certificate, a resolver. In any case redirects are not followed, no
            /// referer is sent, no connection is kept for a later request, and no proxy gets requests to this machine or
            /// in clear. Default: one client is shared by all sources of the process without such settings.
            ///
            /// What a server quotes of the client's `default_headers` is not shown in an error. If one of them is
            /// marked sensitive, or contains a backslash or a quotation mark, this crate cannot read it. Then no
            /// error shows any explanation of a server.
            pub fn http(
                mut self,
                configure: impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder + Send + Sync + 'static,
            ) -> Self {
                self.http = Some(std::sync::Arc::new(configure));
                self
            }

            /// The time limit of one request, from the connection to the last byte. Default 9 s, just below the
            /// policy's `attempt_timeout`. The request also ends with the attempt.
            pub fn timeout(mut self, limit: std::time::Duration) -> Self {
                self.timeout = Some(limit);
                self
            }

            /// The time limit of connecting. Default 5 s.
            pub fn connect_timeout(mut self, limit: std::time::Duration) -> Self {
                self.connect_timeout = Some(limit);
                self
            }

            /// The maximum length of an answer, in bytes. Default 65,536, at most 16 MiB.
            pub fn max_body(mut self, bytes: usize) -> Self {
                self.max_body = Some(bytes);
                self
            }

            /// The settings for the HTTP client and for each request.
            fn http_settings(&mut self) -> ($crate::transport::HttpSettings, $crate::transport::Limits) {
                let settings = $crate::transport::HttpSettings {
                    connect_timeout: self.connect_timeout,
                    proxy: self.proxy.take(),
                    configure: self.http.take(),
                };
                let limits = $crate::transport::Limits { timeout: self.timeout, max_body: self.max_body };
                (settings, limits)
            }
        }
    };
}
pub(crate) use http_setters;
